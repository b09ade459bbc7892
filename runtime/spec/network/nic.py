"""How a network card works: what is asked of it, what it says of itself, what can be had.

The card's own words are those of `ethtool`, of versions 5.4 to 6.11.
"""

import re
from typing import Final, Literal, NamedTuple

from runtime.spec.answers import Probe, Seen, error_of
from runtime.spec.base import Frozen
from runtime.spec.network.declared import Nic

_ON = {True: "on", False: "off"}
_MOST: Final = "Pre-set maximums:"
_NOW: Final = "Current hardware settings:"


class _Row(NamedTuple):
    """One key of `Nic`: how ethtool is asked for it and told it, and the line of its answer."""

    key: str
    query: str
    change: str
    word: str
    line: str


_ROWS: Final = (
    _Row("rx_ring", "-g", "-G", "rx", "RX"),
    _Row("tx_ring", "-g", "-G", "tx", "TX"),
    _Row("queues", "-l", "-L", "combined", "Combined"),
    # Where the card decides, it takes no numbers.
    _Row("adaptive_rx", "-c", "-C", "adaptive-rx", "Adaptive RX"),
    _Row("rx_usecs", "-c", "-C", "rx-usecs", "rx-usecs"),
    _Row("tx_usecs", "-c", "-C", "tx-usecs", "tx-usecs"),
    _Row("tso", "-k", "-K", "tso", "tcp-segmentation-offload"),
    _Row("gso", "-k", "-K", "gso", "generic-segmentation-offload"),
    _Row("gro", "-k", "-K", "gro", "generic-receive-offload"),
    _Row("lro", "-k", "-K", "lro", "large-receive-offload"),
)
_QUERIES: Final = tuple(dict.fromkeys(row.query for row in _ROWS))


class Finding(Frozen):
    """Something that is asked for and cannot be had as it is asked for.

    Attributes:
        what: "data0 rx_ring", or the name of a sysctl.
        asked: the value that the inventory asks for.
        got: the value that is set instead, or empty: nothing is set.
        why: in words.
    """

    what: str
    asked: str
    got: str = ""
    why: str

    def __str__(self) -> str:
        """Return it in one line."""
        got = f"{self.got} is set" if self.got else "not set"
        return f"{self.what}: {self.asked} is asked for, {got}: {self.why}"


class Setting(Frozen):
    """One thing to tell a card.

    Attributes:
        key: of `Nic`.
        value: what it should be.
        now: what it is.
        command: what sets it; `{value}` stands for a value.
    """

    key: str
    value: str
    now: str
    command: tuple[str, ...]

    def told(self, value: str) -> tuple[str, ...]:
        """Return the command that sets a value."""
        return tuple(word.replace("{value}", value) for word in self.command)


def probes(interface: str) -> tuple[Probe, ...]:
    """Return what a card is asked."""
    return tuple(
        Probe(name=f"ethtool {query} {interface}", command=("ethtool", query, interface))
        for query in _QUERIES
    )


def speed_probe(interface: str) -> Probe:
    """Return the question how fast a link is."""
    return Probe(name=f"ethtool {interface}", command=("ethtool", interface))


def speed_of(interface: str, seen: Seen) -> float | None:
    """Return how fast a link is, in Gb/s, or None where the card does not say."""
    found = re.search(r"Speed: (\d+)Mb/s", seen.answer(f"ethtool {interface}").output)
    return int(found[1]) / 1000 if found else None


def settings(
    interface: str, wish: Nic, seen: Seen, forwards: bool
) -> tuple[tuple[Setting, ...], tuple[Finding, ...]]:
    """Return what to tell a card, and what of the wish it cannot do.

    Args:
        interface: the card.
        wish: what the inventory asks for.
        seen: what the host has answered to `probes`.
        forwards: the host forwards packets, which a card must not have joined.
    """
    found: list[Setting] = []
    findings: list[Finding] = []
    for row in _ROWS:
        asked = getattr(wish, row.key)
        if asked is None:
            continue
        one = _setting(row, interface, asked, seen, forwards)
        if isinstance(one, Setting):
            found.append(one)
            shown = _shown(asked)
            if one.value != shown and asked != "max":
                why = f"the card has {one.value} at most"
                findings.append(
                    Finding(what=f"{interface} {row.key}", asked=shown, got=one.value, why=why)
                )
        else:
            findings.append(Finding(what=f"{interface} {row.key}", asked=_shown(asked), why=one))
    return tuple(found), tuple(findings)


def _setting(
    row: _Row, interface: str, asked: int | bool | Literal["max"], seen: Seen, forwards: bool
) -> Setting | str:
    """Return a setting, or why there is none."""
    answer = seen.answer(f"ethtool {row.query} {interface}")
    if answer.code is None:
        return "ethtool is not installed there: apt install ethtool"
    if answer.code != 0:
        return f"the card's driver says: {error_of(answer)}"
    if row.key == "lro" and asked is True and forwards:
        return "the host forwards packets (net.ipv4.ip_forward), and joined ones cannot be"
    word = row.word
    sections = _sections(answer.output)
    now, most = sections[_NOW].get(row.line, ""), sections[_MOST].get(row.line, "")
    if row.key == "queues" and not _number(most) and _number(sections[_MOST].get("RX", "")):
        # Some cards have queues of both kinds apart.
        word, now, most = "rx", sections[_NOW]["RX"], sections[_MOST]["RX"]
    if now in ("", "n/a") or (row.query in ("-g", "-l") and not _number(most)):
        return "the card's driver does not have it"
    if "[fixed]" in now and not now.startswith(_shown(asked)):
        return f"the card's driver fixes it: {now}"
    value = most if asked == "max" else _shown(asked)
    if row.query in ("-g", "-l") and int(value) > int(most):
        value = most
    both = ("tx", "{value}") if row.key == "queues" and word == "rx" else ()
    command = ("ethtool", row.change, interface, word, "{value}", *both)
    return Setting(key=row.key, value=value, now=now.split()[0], command=command)


def _sections(output: str) -> dict[str, dict[str, str]]:
    """Return an answer's lines, those of the most apart from those of now."""
    found: dict[str, dict[str, str]] = {_MOST: {}, _NOW: {}}
    section = _NOW
    for line in output.splitlines()[1:]:
        if line.strip() in found:
            section = line.strip()
            continue
        # Of coalescing, one line has two answers.
        adaptive = re.match(r"Adaptive RX: (\S+)\s+TX: (\S+)", line)
        if adaptive:
            found[section]["Adaptive RX"] = adaptive[1]
        elif ":" in line:
            key, _, value = line.strip().partition(":")
            found[section].setdefault(key, value.strip())
    return found


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _shown(asked: int | bool | str) -> str:
    return _ON[asked] if isinstance(asked, bool) else str(asked)
