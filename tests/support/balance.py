"""Random swarms for the tests of balancing."""

from hypothesis import strategies as st

from runtime.balance.coordinate import MOST_SECONDS, Coordinate
from runtime.balance.snapshot import Placed, Snapshot

MOST_BLOCKS = 12


def coordinates(most_error: float = 1.0) -> st.SearchStrategy[Coordinate]:
    """Return coordinates as a record may say them, no less certain than that."""
    plane = st.floats(-MOST_SECONDS, MOST_SECONDS)
    return st.builds(Coordinate, plane, plane, st.floats(0, MOST_SECONDS), st.floats(0, most_error))


@st.composite
def placed(
    draw: st.DrawFn,
    peer_id: str = "new",
    total_blocks: int = MOST_BLOCKS,
    *,
    some_load: bool = False,
    somewhere: bool = False,
) -> Placed:
    """Return a server somewhere in the model.

    With `some_load` it is perhaps not online or beside, with `somewhere` it may say where it is.
    """
    start = draw(st.integers(0, total_blocks - 1))
    return Placed(
        peer_id=peer_id,
        start=start,
        end=draw(st.integers(start + 1, total_blocks)),
        throughput=draw(st.floats(0.01, 100)),
        online=not some_load or draw(st.booleans()),
        beside=some_load and draw(st.booleans()),
        coordinate=draw(st.none() | coordinates()) if somewhere else None,
    )


@st.composite
def snapshots(draw: st.DrawFn, *, some_load: bool = False, somewhere: bool = False) -> Snapshot:
    """Return a swarm of up to ten servers, as `placed` makes them."""
    total = draw(st.integers(1, MOST_BLOCKS))
    names = "abcdefghij"[: draw(st.integers(0, 10))]
    server = {"some_load": some_load, "somewhere": somewhere}
    return Snapshot.of(total, [draw(placed(name, total, **server)) for name in names])
