"""Where a server is in the network: points whose distances are latencies nobody has measured.

Vivaldi (Dabek, Cox, Kaashoek and Morris, "Vivaldi: a decentralized network coordinate system",
SIGCOMM 2004), in two dimensions and a height, which is what a server's own access adds to each way.
Each measurement is a spring between two servers; each moves a bit towards where the spring rests.

What others say of themselves may be wrong or a lie. It is bounded when it is read, no single
measurement moves a server by more than `_MOST_STEP`, and nobody is trusted to be more certain than
`_LEAST_ERROR`. All that hangs on a distance is which of several ways is taken.
"""

import hashlib
import math
from collections.abc import Iterable
from operator import itemgetter
from typing import Annotated, Final

import msgspec
from msgspec import Meta

SAME_SECONDS: Final = 0.001
"""Ways that differ by less are the same: a hop takes about as long beside its way."""
MOST_SECONDS: Final = 1.0
"""No coordinate is further from the middle; once around the Earth by satellite takes less."""
KNOWN_ERROR: Final = 0.5
"""Nobody reckons with a coordinate whose distances are off by more than this share."""
# The paper's constants for the error and the step.
_ERROR_GAIN, _STEP_GAIN = 0.25, 0.25
_LEAST_ERROR = 0.05
_LEAST_HEIGHT = 1e-5
_MOST_STEP = 0.025
# Far more than the height, or the first springs would lift servers where they should part them.
_NEAR_MIDDLE = 1e-3
_SAME_SHARE = 0.1
_SHORT_WAY = 5 * SAME_SECONDS
# Springs pull so many times for each look: the kernel's shortest round trips hardly vary, and looks
# are seldom.
_ROUNDS, _FIRST_ROUNDS = 4, 32

_Plane = Annotated[float, Meta(ge=-MOST_SECONDS, le=MOST_SECONDS)]


class Coordinate(msgspec.Struct, frozen=True, array_like=True):
    """A point, in seconds one way.

    Attributes:
        x: in the plane.
        y: in the plane.
        height: above it; every way from or to this server is longer by it.
        error: the share by which distances from it are off, 0 to 1; 1: nothing is known yet.
    """

    x: _Plane
    y: _Plane
    height: Annotated[float, Meta(ge=0, le=MOST_SECONDS)] = 0.0
    error: Annotated[float, Meta(ge=0, le=1)] = 0.0

    @property
    def is_known(self) -> bool:
        """Whether its distances say something."""
        return self.error <= KNOWN_ERROR


def distance(one: Coordinate, other: Coordinate) -> float:
    """Return the seconds one way between two different servers."""
    return math.hypot(one.x - other.x, one.y - other.y) + (one.height + other.height)


def known_distance(one: Coordinate | None, other: Coordinate | None) -> float | None:
    """Return the seconds one way between two servers; None where one does not know its place."""
    if one is None or other is None or not (one.is_known and other.is_known):
        return None
    return distance(one, other)


def first(peer_id: str) -> Coordinate:
    """Return where a server begins that has measured nothing: near the middle, beside the others.

    No two begin at the same point, or no spring could tell in which direction to push them.
    """
    turn = hashlib.sha256(peer_id.encode()).digest()
    angle = 2 * math.pi * int.from_bytes(turn[:4], "big") / 2**32
    return Coordinate(
        _NEAR_MIDDLE * math.cos(angle), _NEAR_MIDDLE * math.sin(angle), _LEAST_HEIGHT, 1.0
    )


def updated(me: Coordinate, other: Coordinate, seconds: float) -> Coordinate:
    """Return where a server is after one measurement.

    Where the measurement says what was expected, but for what does not matter, only the certainty
    changes: so servers come to rest.

    Args:
        me: where it was.
        other: where the one is to which it has measured.
        seconds: one way between them, half of a round trip.

    Raises:
        ValueError: `seconds` is no number of seconds.
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds} is no number of seconds")
    seconds = min(seconds, MOST_SECONDS)
    apart = distance(me, other)
    weight = max(me.error, _LEAST_ERROR)
    weight /= weight + max(other.error, _LEAST_ERROR)
    # Of a way of next to nothing every share is large, and none matters.
    wrong = abs(seconds - apart) / max(seconds, _SHORT_WAY)
    error = me.error + _ERROR_GAIN * weight * (min(wrong, 1) - me.error)
    push = 0.0
    if abs(seconds - apart) > max(SAME_SECONDS, _SAME_SHARE * seconds) / 2:
        push = _bounded(_STEP_GAIN * weight * (seconds - apart), _MOST_STEP)
    x, y, up = _direction(me, other)
    return Coordinate(
        _bounded(me.x + push * x, MOST_SECONDS),
        _bounded(me.y + push * y, MOST_SECONDS),
        min(max(me.height + push * up, _LEAST_HEIGHT), MOST_SECONDS),
        min(max(error, _LEAST_ERROR), 1),
    )


def located(me: Coordinate, measured: Iterable[tuple[Coordinate, float]]) -> Coordinate:
    """Return where a server is after a look at all servers to which it has measured.

    Those that know where they are place it at once: it begins as far from the nearest of them as
    it has measured, and goes from one to the next until it has come to rest. From nearer by, the
    first springs would lift it, and servers beside it would seem far. The others are as new as it
    is, and learn with it.

    Args:
        me: where it was.
        measured: where each of them is, and the seconds one way to it.

    Raises:
        ValueError: a measurement is no number of seconds.
    """
    measured = list(measured)
    sure = [sample for sample in measured if sample[0].is_known]
    rounds = _ROUNDS
    if sure and not me.is_known:
        me, measured, rounds = _beside(me, *min(sure, key=itemgetter(1))), sure, _FIRST_ROUNDS
    for _ in range(rounds):
        for other, seconds in measured:
            me = updated(me, other, seconds)
    return me


def worth_saying(said: Coordinate, now: Coordinate) -> bool:
    """Return whether a server is elsewhere than it has said, by more than what does not matter.

    That is a millisecond and a tenth of its distance from the middle. It is also worth saying that
    it has become twice as certain, or certain enough for others to reckon with it.
    """
    moved = math.hypot(now.x - said.x, now.y - said.y) + abs(now.height - said.height)
    size = math.hypot(said.x, said.y) + said.height
    surer = now.error <= said.error / 2 or (now.is_known and not said.is_known)
    return surer or moved > max(SAME_SECONDS, _SAME_SHARE * size)


def _beside(me: Coordinate, other: Coordinate, seconds: float) -> Coordinate:
    """Return a place so far from another server, in the direction in which this one was pushed."""
    length = math.hypot(me.x, me.y)
    share = max(_NEAR_MIDDLE, seconds - other.height) / length if length > 0 else 0.0
    return Coordinate(
        _bounded(other.x + share * me.x, MOST_SECONDS),
        _bounded(other.y + share * me.y, MOST_SECONDS),
        _LEAST_HEIGHT,
        me.error,
    )


def _direction(me: Coordinate, other: Coordinate) -> tuple[float, float, float]:
    """Return the way from another server to this one, of length one: in the plane, and up."""
    x, y, up = me.x - other.x, me.y - other.y, me.height + other.height
    length = math.hypot(x, y) + up
    return (x / length, y / length, up / length) if length > 0 else (1.0, 0.0, 0.0)


def _bounded(value: float, most: float) -> float:
    return max(-most, min(most, value))
