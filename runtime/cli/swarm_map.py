"""The picture of a swarm: a map of blocks by servers, in the width of a terminal."""

import itertools
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from runtime.spec.base import Span
from runtime.swarm.records import State
from runtime.swarm.report import Event, ServerReport, SwarmReport

_LEAST_MAP = 16
"""So many columns the map has at least, however narrow the terminal."""
_ROWS = 40
"""Beyond so many servers, those with the same blocks in the same state share a row."""
_EVENTS = 10
_REMARKS = 5
_HOPS = 12
_SHORTEST_ID = 6
_WIDEST_HOST = 24
_GIB = 1 << 30
_STYLES: Final[Mapping[State, str]] = {
    "online": "green",
    "joining": "yellow",
    "reserving": "yellow",
    "draining": "magenta",
    "leaving": "magenta",
}
_EVENT_STYLES = {"gap": "red", "covered": "green", "moves": "cyan"}
_FILLED: Final[Mapping[State, str]] = {
    "online": "█",
    "joining": "▒",
    "reserving": "░",
    "draining": "▒",
    "leaving": "▒",
}
_COMING, _PARTLY = "·", "▌"
_REPLICAS = "replicas"
_MAP = ""
_HEADINGS = (
    "server",
    "host",
    "what",
    "state",
    "blocks",
    _MAP,
    "steps/s",
    "sessions",
    "KV GiB free",
)
_NUMBERS = _HEADINGS[_HEADINGS.index(_MAP) + 1 :]
_LEAVES_FIRST = ("host", "KV GiB free", "sessions")
"""What a narrow terminal goes without."""


def drawn(
    report: SwarmReport, width: int, names: Mapping[str, str], height: int | None = None
) -> Group:
    """Return the picture.

    Args:
        report: on the swarm.
        width: of the terminal, in columns.
        names: the names of hosts, by their addresses.
        height: of the terminal, in rows; what does not fit is left out. None: show everything.
    """
    head = [_headline(report), *_shortages(report)]
    now = [*_ways(report), *_moving(report), *_remarks(report)]
    events = list(_history(report))
    around = sum(_height(text, width) for text in (*head, *now, *events))
    # And an empty line, the headings, the replicas and a line on what is left out.
    room = None if height is None else height - around - 4
    return Group(*head, "", *_map(report, width, names, room), *now, *events)


def columns(total_blocks: int, width: int) -> list[Span]:
    """Return the blocks that each column of a map stands for, all about equally many."""
    count = min(total_blocks, max(width, _LEAST_MAP))
    bounds = [total_blocks * column // count for column in range(count + 1)]
    return [Span(start=start, end=end) for start, end in itertools.pairwise(bounds)]


def bar(server: ServerReport, shown: Sequence[Span]) -> Text:
    """Return a server's row of the map: its blocks, and those that it moves to."""
    text = Text()
    for column in shown:
        if column.start >= server.blocks.start and column.end <= server.blocks.end:
            text.append(_FILLED[server.state], _STYLES[server.state])
        elif _overlap(column, server.blocks):
            text.append(_PARTLY, _STYLES[server.state])
        elif server.to is not None and _overlap(column, server.to):
            text.append(_COMING, "cyan")
        else:
            text.append(" ")
    return text


def copies(replicas: Sequence[int], shown: Sequence[Span]) -> Text:
    """Return the row of replicas: of each column the fewest, so that no hole hides."""
    text = Text()
    for column in shown:
        fewest = min(replicas[column.start : column.end])
        style = "bold red reverse" if fewest == 0 else "yellow" if fewest == 1 else "green"
        text.append(str(fewest) if fewest < 10 else "+", style)
    return text


def short_ids(peer_ids: Iterable[str]) -> dict[str, str]:
    """Return the last characters of each peer id, as many as tell all of them apart."""
    known = set(peer_ids)
    longest = max(map(len, known), default=0)
    for length in range(_SHORTEST_ID, longest):
        if len({peer_id[-length:] for peer_id in known}) == len(known):
            return {peer_id: peer_id[-length:] for peer_id in known}
    return {peer_id: peer_id for peer_id in known}


def _height(text: Text, width: int) -> int:
    """Return how many rows of a terminal a text takes."""
    return sum(max(1, len(textwrap.wrap(line, width))) for line in text.plain.split("\n"))


def _overlap(one: Span, other: Span) -> bool:
    return max(one.start, other.start) < min(one.end, other.end)


def _headline(report: SwarmReport) -> Text:
    worth = report.capacity
    # A client side without blocks serves nobody.
    states = [server.state for server in report.servers if len(server.blocks) or server.stage]
    online = states.count("online")
    served = Text("complete", "green") if report.complete else Text("INCOMPLETE", "bold red")
    return Text.assemble(
        served,
        f" · {report.total_blocks} blocks of model {report.model_digest[:12]} · "
        f"{online} of {len(states) + report.left_out} servers online · capacity {worth.now:.2f} "
        f"steps/s, {worth.quality:.1%} of the best placement known ({worth.best_known:.2f})",
    )


def _shortages(report: SwarmReport) -> Iterator[Text]:
    for shortage in report.missing:
        yield Text(f"missing {shortage}", "red")
    if report.single_copies:
        spans = ", ".join(map(str, report.single_copies))
        yield Text(f"one copy only: {spans}", "yellow")
    if report.advice:
        yield Text(report.advice)


def _map(
    report: SwarmReport, width: int, names: Mapping[str, str], room: int | None
) -> Iterator[Table | Text]:
    rows = _grouped(report.servers)
    fitting = rows if room is None else rows[: max(room, 1)]
    short = short_ids(server.peer_id for server in report.servers)
    cells = [_cells(row, short, names) for row in fitting]
    widths = {
        heading: max(len(heading), *(len(texts[heading]) for texts in cells))
        for heading in _HEADINGS
    }
    widths["server"] = max(widths["server"], len(_REPLICAS))
    headings, left = _that_fit(widths, width)
    shown = columns(report.total_blocks, left)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        title = heading or _axis(len(shown), report.total_blocks)
        table.add_column(title, justify="right" if heading in _NUMBERS else "left", no_wrap=True)
    for row, texts in zip(fitting, cells, strict=True):
        marked = {heading: Text(text) for heading, text in texts.items()}
        marked["state"].stylize(_STYLES[row[0].state])
        marked[_MAP] = bar(row[0], shown)
        table.add_row(*(marked[heading] for heading in headings))
    last = {"server": Text(_REPLICAS), _MAP: copies(report.replicas, shown)}
    table.add_row(*(last.get(heading, Text()) for heading in headings))
    yield table
    hidden = report.left_out + sum(map(len, rows[len(fitting) :]))
    if hidden:
        yield Text(f"and {hidden} more servers: --json")


def _that_fit(widths: Mapping[str, int], width: int) -> tuple[list[str], int]:
    """Return the columns that a terminal has room for, and how many characters the map gets."""
    headings = list(_HEADINGS)
    for unneeded in (*_LEAVES_FIRST, None):
        # Between two columns there is a space.
        left = width - sum(widths[heading] for heading in headings) - len(headings) + 1
        if left >= _LEAST_MAP or unneeded is None:
            break
        headings.remove(unneeded)
    return headings, left


def _grouped(servers: Sequence[ServerReport]) -> list[list[ServerReport]]:
    """Return the rows of the map: each server alone, or those alike together if there are many."""
    if len(servers) <= _ROWS:
        return [[server] for server in servers]

    def alike(server: ServerReport) -> tuple[object, ...]:
        to = (-1, -1) if server.to is None else (server.to.start, server.to.end)
        return server.blocks.start, server.blocks.end, server.state, server.fixed, to

    return [list(row) for _, row in itertools.groupby(sorted(servers, key=alike), alike)]


def _cells(
    row: Sequence[ServerReport], short: Mapping[str, str], names: Mapping[str, str]
) -> dict[str, str]:
    """Return a row's texts by their headings, the map still empty."""
    first, alone = row[0], len(row) == 1
    free = sum(server.kv_bytes - server.kv_taken_bytes for server in row) / _GIB
    room = sum(server.kv_bytes for server in row) / _GIB
    host = first.address.rpartition(":")[0].strip("[]")
    place = f"stage {first.stage}" if alone else "fixed"
    believed = sum(server.believed for server in row)
    said = sum(server.throughput for server in row)
    return {
        "server": short[first.peer_id] if alone else f"{len(row)} servers",
        "host": names.get(host, first.address)[:_WIDEST_HOST] if alone else "",
        "what": place if first.fixed else "balanced",
        "state": first.state,
        "blocks": str(first.blocks) if first.to is None else f"{first.blocks} -> {first.to}",
        _MAP: "",
        "steps/s": f"{said:.2f}" if believed == said else f"{said:.2f} (seen {believed:.2f})",
        "sessions": str(sum(server.sessions for server in row)),
        "KV GiB free": f"{free:.1f}/{room:.1f}",
    }


def _axis(width: int, total_blocks: int) -> str:
    last = str(total_blocks - 1)
    return f"0{last.rjust(width - 1)}" if width > len(last) + 1 else ""


def _ways(report: SwarmReport) -> Iterator[Text]:
    """Yield how far the servers of a route are from each other, if that is known of any."""
    ways = [*(hop.way_ms for hop in report.route), report.way_back_ms]
    if all(way is None for way in ways):
        return
    short = short_ids(server.peer_id for server in report.servers)
    steps = [
        f"{_way(hop.way_ms)} to {short.get(hop.peer_id, hop.peer_id)} {hop.blocks}"
        for hop in report.route[:_HOPS]
    ]
    more = [f"{len(report.route) - _HOPS} more servers"] if len(report.route) > _HOPS else []
    yield Text(f"a session's way: {', '.join([*steps, *more, _way(report.way_back_ms)])} back")


def _way(milliseconds: float | None) -> str:
    return "?" if milliseconds is None else f"{milliseconds:.1f} ms"


def _moving(report: SwarmReport) -> Iterator[Text]:
    short = short_ids(server.peer_id for server in report.servers)
    for server in report.servers:
        if server.to is not None:
            yield Text(
                f"moving now: {short[server.peer_id]} from {server.blocks} to {server.to}: "
                f"{server.reason}",
                "cyan",
            )


def _remarks(report: SwarmReport) -> Iterator[Text]:
    for remark in report.remarks[:_REMARKS]:
        yield Text(f"{remark.peer_id}: {remark.problem}\n  -> {remark.hint}", "yellow")
    if len(report.remarks) > _REMARKS:
        yield Text(f"and {len(report.remarks) - _REMARKS} more such remarks: --json", "yellow")


def _history(report: SwarmReport) -> Iterator[Text]:
    short = short_ids(
        [*(server.peer_id for server in report.servers), *(e.peer_id for e in report.events)]
    )
    if report.events:
        yield Text("")
    for event in report.events[-_EVENTS:]:
        yield _line(event, short)


def _line(event: Event, short: Mapping[str, str]) -> Text:
    when = time.strftime("%H:%M:%S", time.localtime(event.at))
    who = f"{short[event.peer_id]} " if event.peer_id else ""
    return Text(f"{when} {who}{event}", _EVENT_STYLES.get(event.kind, ""))
