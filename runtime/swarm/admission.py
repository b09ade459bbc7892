"""Which records of the directory count, and why others do not: pure judgements."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from runtime.errors import WireError
from runtime.swarm.belief import MOST_TIMES_MEDIAN, bounded
from runtime.swarm.records import ServerInfo, decode, decode_presence
from runtime.swarm.report import Remark

SKEW_SECONDS: Final = 3.0
"""Clocks may differ by so much; it is what hivemind allows (MAX_DHT_TIME_DISCREPANCY_SECONDS)."""

_MOST_RUNS = 8

_SAME_MODEL = "give all hosts the same model directory; compare: stagefleet model show"
_SAME_RELEASE = "deploy the same release to all hosts"
_MEASURE = (
    "restart that server, so that it measures anew; if it says so again, do not trust its host"
)
_ONE_IDENTITY = (
    "stop one of the two, and make an identity of its own for it: docs/how-to/by-hand.md"
)


@dataclass(frozen=True)
class Entry:
    """What the directory keeps under one server's name.

    Attributes:
        value: the record's bytes.
        expires: until when, in seconds since 1970 by its author's clock.
    """

    value: bytes
    expires: float


@dataclass(frozen=True)
class Admission:
    """The records that count, ordered by their first block, and what is wrong with others."""

    servers: tuple[ServerInfo, ...]
    remarks: tuple[Remark, ...]


def admitted(entries: Mapping[str, Entry], model_digest: str, total_blocks: int) -> Admission:
    """Return which records of a model's directory count.

    One that cannot be read, or that contradicts the model, does not; a throughput out of all
    proportion to the others' is bounded.
    """
    servers, remarks = [], []
    for peer_id in sorted(entries):
        try:
            info = decode(entries[peer_id].value)
            _check(info, peer_id, model_digest, total_blocks)
        except WireError as error:
            remarks.append(Remark(peer_id=peer_id, problem=str(error), hint=_SAME_RELEASE))
        else:
            # No record can be taken back before it expires; its last word is that.
            if info.state != "gone":
                servers.append(info)
    found = bounded(servers)
    for info, limited in zip(servers, found, strict=True):
        if info.throughput != limited.throughput:
            problem = (
                f"it says {info.throughput:.6g} steps/s; {limited.throughput:.6g} are believed, "
                f"{MOST_TIMES_MEDIAN:g} times what the others have in the middle"
            )
            remarks.append(Remark(peer_id=info.peer_id, problem=problem, hint=_MEASURE))
    ordered = sorted(found, key=lambda info: (info.start, info.peer_id))
    return Admission(tuple(ordered), tuple(remarks))


def _check(info: ServerInfo, peer_id: str, model_digest: str, total_blocks: int) -> None:
    if info.peer_id != peer_id:
        raise WireError(f"its record speaks for {info.peer_id}")
    if info.model_digest != model_digest:
        raise WireError(f"its record is of model {info.model_digest[:12]}, in the wrong place")
    if info.total_blocks != total_blocks:
        raise WireError(
            f"its record says that the model has {info.total_blocks} blocks; it has {total_blocks}"
        )


def strangers(entries: Mapping[str, Entry], model_digest: str) -> tuple[Remark, ...]:
    """Return the servers of a fleet that serve another model than this one.

    They have a directory of their own, so that neither side sees the other otherwise.
    """
    found = []
    for peer_id in sorted(entries):
        try:
            presence = decode_presence(entries[peer_id].value)
        except WireError as error:
            found.append(Remark(peer_id=peer_id, problem=str(error), hint=_SAME_RELEASE))
            continue
        if presence.model_digest != model_digest:
            problem = (
                f"it serves another model, {presence.model_digest[:12]}, this server "
                f"{model_digest[:12]}: neither takes part in the other's swarm"
            )
            found.append(Remark(peer_id=peer_id, problem=problem, hint=_SAME_MODEL))
    return tuple(found)


class Renewals:
    """Which records are kept alive, judged by this server's own clock.

    An expiration time is its author's word: with a wrong clock, or out of malice, a record could
    stand for ever. One that has not been renewed for as long as it may live is none.
    """

    def __init__(self, lifetime_seconds: float) -> None:
        """Start without a look.

        Args:
            lifetime_seconds: how long a record lives without being renewed.
        """
        self._seconds = lifetime_seconds + SKEW_SECONDS
        self._seen: dict[str, tuple[float, float]] = {}

    def alive(self, entries: Mapping[str, Entry], now: float) -> dict[str, Entry]:
        """Return the records that have been renewed lately, or are seen for the first time.

        Args:
            entries: of one look.
            now: seconds by a clock that never runs backwards.
        """
        before, self._seen = self._seen, {}
        for peer_id, entry in entries.items():
            expires, since = before.get(peer_id, (-float("inf"), now))
            renewed = entry.expires > expires
            self._seen[peer_id] = (entry.expires, now) if renewed else (expires, since)
        return {
            peer_id: entry
            for peer_id, entry in entries.items()
            if now - self._seen[peer_id][1] <= self._seconds
        }


@dataclass
class _Runs:
    current: str
    last: dict[str, float]
    doubled_until: float = -float("inf")


class Twins:
    """Notices two processes that speak under one name.

    Each start of a server is a run of its own. A run that is over never speaks again, so one that
    renews its record after another run of the same server did is alive beside it.
    """

    def __init__(self, lifetime_seconds: float) -> None:
        """Start without a look.

        Args:
            lifetime_seconds: so long it is said after it was last seen.
        """
        self._seconds = lifetime_seconds
        self._runs: dict[str, _Runs] = {}

    def seen(
        self, servers: Iterable[ServerInfo], entries: Mapping[str, Entry], now: float
    ) -> tuple[Remark, ...]:
        """Return which names two processes have.

        Args:
            servers: the records of one look.
            entries: what they were read from.
            now: seconds by a clock that never runs backwards.
        """
        before, self._runs, found = self._runs, {}, []
        for server in servers:
            expires = entries[server.peer_id].expires
            runs = before.get(server.peer_id) or _Runs(server.run, {})
            self._runs[server.peer_id] = runs
            if server.run != runs.current and expires > runs.last.get(server.run, expires):
                runs.doubled_until = now + self._seconds
            runs.current = server.run
            runs.last[server.run] = expires
            while len(runs.last) > _MOST_RUNS:
                del runs.last[next(iter(runs.last))]
            if now < runs.doubled_until:
                problem = f"two processes have this identity; one announces {server.addresses[0]}"
                remark = Remark(peer_id=server.peer_id, problem=problem, hint=_ONE_IDENTITY)
                found.append(remark)
        return tuple(found)
