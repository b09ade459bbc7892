"""Random swarms for the tests of balancing."""

from hypothesis import strategies as st

from runtime.balance.snapshot import Placed, Snapshot

MOST_BLOCKS = 12


@st.composite
def placed(
    draw: st.DrawFn,
    peer_id: str = "new",
    total_blocks: int = MOST_BLOCKS,
    *,
    some_load: bool = False,
) -> Placed:
    """Return a server somewhere in the model; with `some_load`, perhaps not online or beside."""
    start = draw(st.integers(0, total_blocks - 1))
    return Placed(
        peer_id=peer_id,
        start=start,
        end=draw(st.integers(start + 1, total_blocks)),
        throughput=draw(st.floats(0.01, 100)),
        online=not some_load or draw(st.booleans()),
        beside=some_load and draw(st.booleans()),
    )


@st.composite
def snapshots(draw: st.DrawFn, *, some_load: bool = False) -> Snapshot:
    """Return a swarm of up to ten servers; with `some_load`, not all of them are online."""
    total = draw(st.integers(1, MOST_BLOCKS))
    names = "abcdefghij"[: draw(st.integers(0, 10))]
    return Snapshot.of(total, [draw(placed(name, total, some_load=some_load)) for name in names])
