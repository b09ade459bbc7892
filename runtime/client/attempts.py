"""How often opening a session is tried, and when it is in vain."""

import time
from collections.abc import Callable, Collection

from runtime.errors import PeerLostError, SessionError

PAUSE_SECONDS = 0.5
"""Between two looks at what a session waits for: blocks, or a server that does not answer."""
_MOST_REFUSALS = 4


class Attempts:
    """Why a session could not be opened so far, and whether another attempt makes sense.

    Others take the place of a server that has failed, if there are any. Where there are none, it
    may be that it is being started again, or that another one is about to take its blocks: that is
    waited for. Nobody waits for a server that answers and does not want the session.

    Attributes:
        count: how many have failed.
        peer_ids: at which servers.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start before the first attempt.

        Args:
            patience: seconds from the first failure for which servers that are lost are waited for.
            clock: seconds that never run backwards.
        """
        self._patience, self._clock = patience, clock
        self.count = 0
        self.peer_ids: set[str] = set()
        self._refusals = 0
        self._lost: set[str] = set()
        # They failed although the directory had just been asked.
        self._certain: set[str] = set()
        self._last: PeerLostError | SessionError | None = None
        self._began = 0.0

    def add(self, error: PeerLostError | SessionError) -> None:
        """Count a failure.

        Raises:
            PeerLostError: there were enough of them; the last one.
            SessionError: the same.
        """
        if self.count == 0:
            self._began = self._clock()
        else:
            self._certain.add(error.peer_id)
        self.count += 1
        self._last = error
        self.peer_ids.add(error.peer_id)
        if isinstance(error, PeerLostError) and error.peer_id:
            self._lost.add(error.peer_id)
        else:
            self._lost.discard(error.peer_id)
            self._refusals += 1
        if self._refusals == _MOST_REFUSALS:
            raise error

    def pause(self, peer_ids: Collection[str]) -> float:
        """Return how many seconds to wait before an attempt along a route of these servers.

        Raises:
            PeerLostError: one of them is lost, and has been waited for; the last failure.
            SessionError: one of them would refuse the session again; the last failure.
        """
        failed = self._certain.intersection(peer_ids)
        if self._last is None or not failed:
            return 0.0
        if failed <= self._lost and self._clock() - self._began < self._patience:
            return PAUSE_SECONDS
        raise self._last
