"""Whether a server should move, and why: its answer, as data and as one line of a log."""

from dataclasses import dataclass
from typing import Final

from runtime.balance.capacity import capacity
from runtime.balance.placement import Choice, best_move
from runtime.balance.snapshot import Snapshot
from runtime.balance.worth import WORTH

HORIZON_SECONDS: Final = 600
"""A move has to pay for itself within this time; later the swarm is another one."""


@dataclass(frozen=True)
class Decision:
    """What a server has decided.

    Attributes:
        move: where it goes, or None if it stays.
        initial: the swarm's capacity as it is, in decode steps per second.
        new: what the best move of any server would make of it.
        reason: why, in words.
    """

    move: Choice | None
    initial: float
    new: float
    reason: str

    @property
    def quality(self) -> float:
        """What the swarm reaches of what it could reach with one move more, 0 to 1."""
        return min(1.0, self.initial / self.new) if self.new > 0 else 1.0

    def __str__(self) -> str:
        """Return it in the words that operators look for."""
        return (
            f"Swarm balance quality: {self.quality:.1%} "
            f"(initial={self.initial:.2f}, new={self.new:.2f})"
        )


def should_choose_other_blocks(
    snapshot: Snapshot, peer_id: str, balance_quality: float, load_seconds: float
) -> Decision:
    """Return whether this server is the one to move, and where.

    Every server that sees the same snapshot comes to the same move of the same server. It is made
    at once where it closes a gap, gives blocks copies that they should have, or where the swarm
    reaches less than `balance_quality` of what it would reach; otherwise it has to pay: what it
    gains within the horizon is more than what is lost while the server loads. With a
    `balance_quality` of 0 nobody moves.

    Args:
        snapshot: the whole swarm.
        peer_id: who asks.
        balance_quality: the share, 0 to 1.
        load_seconds: how long this server needs to load a span, not serving meanwhile.
    """
    best = best_move(snapshot)
    if best is None:
        now = capacity(snapshot)
        return Decision(None, now, now, "no move would help")
    initial, new = best.before, best.after

    if balance_quality <= 0:
        return Decision(None, initial, new, "balance_quality is 0: nobody moves")
    if best.peer_id != peer_id:
        return Decision(None, initial, new, f"a move of {best.peer_id} helps most")
    if best.mends:
        return Decision(best, initial, new, best.reason)
    if initial < balance_quality * new:
        return Decision(best, initial, new, f"below balance_quality {balance_quality:g}")
    lost = (initial - capacity(snapshot.without(peer_id))) * load_seconds
    return _paying(best, lost)


def _paying(best: Choice, lost: float) -> Decision:
    """Return whether a move pays that costs `lost` steps while its server loads."""
    if best.gain < (1 - WORTH) * best.before:
        return Decision(None, best.before, best.after, f"less than {1 - WORTH:.0%} to gain")
    # Nothing is lost where old blocks are served meanwhile; rounding must not say less than that.
    seconds = max(0.0, lost) / best.gain
    if seconds >= HORIZON_SECONDS:
        reason = f"it would pay for itself after {seconds:.0f} s, when the swarm is another one"
        return Decision(None, best.before, best.after, reason)
    return Decision(best, best.before, best.after, f"it pays for itself in {seconds:.0f} s")
