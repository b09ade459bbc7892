"""Servers that failed, and how long to leave them alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FIRST_SECONDS: Final = 15.0
LONGEST_SECONDS: Final = 300.0


@dataclass(frozen=True)
class _Ban:
    seconds: float
    until: float


class Bans:
    """Peers that are avoided for a while: twice as long each time, until one does well again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start with none; `clock` gives seconds that never run backwards."""
        self._clock = clock
        self._bans: dict[str, _Ban] = {}

    def blame(self, peer_id: str) -> None:
        """Ban a peer that failed; what many sessions see of one failure counts once."""
        now, last = self._clock(), self._bans.get(peer_id)
        if last is not None and now < last.until:
            return
        seconds = FIRST_SECONDS if last is None else min(2 * last.seconds, LONGEST_SECONDS)
        self._bans[peer_id] = _Ban(seconds, now + seconds)

    def forgive(self, peer_id: str) -> None:
        """Forget what a peer has done."""
        self._bans.pop(peer_id, None)

    def banned(self) -> frozenset[str]:
        """Return who is banned now."""
        now = self._clock()
        # Peers that are gone are not kept for ever; one that comes back so late begins anew.
        self._bans = {
            peer_id: ban for peer_id, ban in self._bans.items() if now < ban.until + LONGEST_SECONDS
        }
        return frozenset(peer_id for peer_id, ban in self._bans.items() if now < ban.until)
