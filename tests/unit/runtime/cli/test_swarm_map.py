"""The picture of a swarm, as it looks in a terminal."""

import functools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from runtime.cli.swarm_map import columns, copies, drawn, short_ids
from runtime.spec.base import Span
from runtime.swarm.history import History
from runtime.swarm.overview import Known, overview
from runtime.swarm.records import Seating, ServerInfo
from runtime.swarm.report import Remark, SwarmReport
from tests.support.records import info


def picture(report: SwarmReport, width: int, height: int | None = None) -> list[str]:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(drawn(report, width, {"10.0.0.1": "gpu-1"}, height))
    return captured.get().splitlines()


def server(name: str, start: int, end: int, blocks: int, **fields: object) -> ServerInfo:
    fixed: dict[str, object] = {
        "peer_id": f"QmPeer{name}",
        "start": start,
        "end": end,
        "total_blocks": blocks,
        "seating": Seating(num_blocks=end - start),
    }
    return info(**fixed | fields)


def report(*servers: ServerInfo, blocks: int, **fields: Any) -> SwarmReport:
    own = server("own", 0, 0, blocks, stage=0, seating=None)
    return overview(Known(at=0.0, own=own, servers=servers, **fields))


def test_a_small_swarm_is_drawn_block_by_block() -> None:
    moving = Seating(num_blocks=2, target=(4, 6), reason="it pays for itself in 9 s")
    found = report(
        server("00000a", 0, 4, 8),
        server("00000b", 2, 4, 8, state="draining", seating=moving),
        server("00000c", 6, 8, 8, state="joining", addresses=info().addresses * 2),
        blocks=8,
        observed={"QmPeer00000a": 3.25},
        remarks=(Remark(peer_id="QmBad", problem="it says nonsense", hint="mend it"),),
    )
    lines = picture(found, 160)
    assert lines[0].startswith("INCOMPLETE · 8 blocks of model d · 1 of 3 servers online")
    assert lines[1].startswith("missing blocks 4 to 7: wait: QmPeer00000b and 1 more")
    assert lines[2] == "one copy only: [0, 4)"
    rows = {line.split()[0]: line for line in lines[5:] if line}
    assert "████ " in rows["00000a"]
    assert "gpu-1 balanced online" in rows["00000a"]
    assert "12.50 (seen 3.25)" in rows["00000a"]
    assert "[2, 4) -> [4, 6)   ▒▒·· " in rows["00000b"]
    assert "      ▒▒" in rows["00000c"]
    assert "11110000" in rows["replicas"]
    assert "moving now: 00000b from [2, 4) to [4, 6): it pays for itself in 9 s" in lines
    assert "QmBad: it says nonsense" in lines


@functools.cache
def large() -> SwarmReport:
    draw = random.Random(0)
    starts = (draw.randrange(126 - 8) for _ in range(100))
    servers = [server(f"{n:06}", start, start + 8, 126) for n, start in enumerate(starts)]
    history = History(Span(start=0, end=126))
    history.take((), 0)
    history.take(tuple(servers), 1)
    return report(*servers, blocks=126, events=history.events)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_hundred_servers_of_126_blocks_fit_into_a_terminal(width: int) -> None:
    found = large()
    whole = picture(found, width)
    assert max(map(len, whole)) <= width
    # Servers with the same blocks share a row.
    assert len(whole) < len(found.servers)
    cut = picture(found, width, height=50)
    assert len(cut) <= 50
    assert any(" more" in line for line in cut)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=300), st.integers(0, 200))
def test_no_hole_hides_and_every_block_has_a_column(replicas: list[int], width: int) -> None:
    shown = columns(len(replicas), width)
    assert [block for span in shown for block in range(span.start, span.end)] == list(
        range(len(replicas))
    )
    assert max(map(len, shown)) - min(map(len, shown)) <= 1
    row = copies(replicas, shown).plain
    assert len(row) == len(shown) <= max(width, 16)
    assert ("0" in row) == (0 in replicas)


@given(st.sets(st.text("abc", min_size=1, max_size=9), max_size=12))
def test_short_ids_tell_servers_apart(peer_ids: set[str]) -> None:
    found = short_ids(peer_ids)
    assert found.keys() == peer_ids
    assert len(set(found.values())) == len(peer_ids)
    assert all(peer_id.endswith(short) for peer_id, short in found.items())


def test_the_ways_of_a_route_are_shown_where_they_are_known() -> None:
    pair = [server("00000a", 0, 4, 8), server("00000b", 4, 8, 8)]
    assert not any("way" in line for line in picture(report(*pair, blocks=8), 160))
    found = report(*pair, blocks=8, latency={"QmPeer00000a": 0.0012})
    (line,) = (line for line in picture(found, 160) if "way" in line)
    assert line == "a session's way: 1.2 ms to 00000a [0, 4), ? to 00000b [4, 8), ? back"


def test_a_long_route_is_cut_short() -> None:
    many = [server(f"{number:06}", number, number + 1, 20) for number in range(20)]
    found = report(*many, blocks=20, latency={"QmPeer000019": 0.01})
    (line,) = (line for line in picture(found, 1000) if "way" in line)
    assert line.endswith("? to 000011 [11, 12), 8 more servers, 10.0 ms back")
