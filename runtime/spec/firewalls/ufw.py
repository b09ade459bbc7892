"""ufw: our rules among those of others, known by their comments."""

import ipaddress
import shlex
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from runtime.spec.answers import Probe, Seen
from runtime.spec.errors import SpecError
from runtime.spec.firewalls.seen import DIRECTORY
from runtime.spec.openings import Opening
from runtime.spec.undoing import Change, Check, Difference, Step

NAME: Final = "ufw"
_MARK: Final = "stagefleet: "
# What was switched over for the first fleet, so that it is switched back after the last.
_SWITCHED: Final = f"{DIRECTORY}/ufw"
_WAS_OFF: Final = "was off\n"
_LET_IN: Final = "let everything in\n"
_DEFAULTS: Final = "/etc/default/ufw"
_SAVED: Final = ("/etc/ufw/user.rules", "/etc/ufw/user6.rules", "/etc/ufw/ufw.conf", _DEFAULTS)

WORKS: Final = Probe(name=NAME, command=("ufw", "status", "verbose"))
_ADDED: Final = Probe(name="ufw_added", command=("ufw", "show", "added"), needs=NAME)
PROBES: Final = (WORKS, _ADDED)
FILES: Final = (_DEFAULTS,)


class _Rule(NamedTuple):
    """A rule in ufw's own words: what `ufw show added` prints is what it is told."""

    text: str
    comment: str


def is_active(seen: Seen) -> bool:
    """Return whether ufw filters now."""
    return "Status: active" in seen.answer(NAME).output


def switched_on(seen: Seen) -> bool:
    """Return whether it was switched on for a fleet."""
    return _WAS_OFF in seen.files.get(_SWITCHED, "")


def rule_of(fleet: str, opening: Opening) -> _Rule:
    """Return the rule for an opening."""
    network = ipaddress.ip_network(opening.source)
    comment = f"{_MARK}{fleet}: {opening.purpose}"
    if network.prefixlen == 0:
        # ufw shows the two families' rules for everybody alike; the comment tells them apart.
        text = f"allow {opening.port}/{opening.protocol}"
        return _Rule(text, f"{comment} (IPv{network.version})")
    source = opening.source
    if network.prefixlen == network.max_prefixlen:
        source = str(network.network_address)
    return _Rule(
        f"allow from {source} to any port {opening.port} proto {opening.protocol}", comment
    )


def installed(fleet: str, openings: Iterable[Opening], seen: Seen) -> Change | None:
    """Return what makes a host let in these openings, or None if it does that already.

    Raises:
        SpecError: ufw cannot filter one of them as it is set.
    """
    wanted = {rule_of(fleet, opening): opening for opening in openings}
    _refuse_ipv6(seen, wanted.values())
    there = set(_rules(seen))
    # A rule of somebody else that says the same stays theirs.
    foreign = {rule.text for rule in there if not rule.comment.startswith(f"{_MARK}{fleet}: ")}
    missing = {
        rule: opening
        for rule, opening in wanted.items()
        if rule not in there and rule.text not in foreign
    }
    stale = [rule for rule in _own(fleet, seen) if rule not in wanted]
    lets_in = _default(seen) == "ACCEPT"
    active = is_active(seen)
    enabled = seen.unit("ufw.service").get("UnitFileState") == "enabled"
    if not missing and not stale and not lets_in and active and enabled:
        return None
    switched = ("" if active else _WAS_OFF) + (_LET_IN if lets_in else "")
    marker = seen.files.get(_SWITCHED, "") + switched
    add = [(*_words(rule, opening), "comment", rule.comment) for rule, opening in missing.items()]
    return Change(
        checks=tuple(Check(command=("ufw", "--dry-run", *words)) for words in add),
        saved=(*_SAVED, _SWITCHED),
        steps=(
            *(Step(command=("ufw", *words)) for words in add),
            *(_delete(rule) for rule in stale),
            *([Step(path=_SWITCHED, text=marker)] if switched else []),
            *([Step(command=("ufw", "default", "deny", "incoming"))] if lets_in else []),
            *([] if enabled else [Step(command=("systemctl", "enable", "--quiet", "ufw"))]),
            *([] if active else [Step(command=("ufw", "--force", "enable"))]),
        ),
        undo_first=() if active else ("ufw --force disable",),
        undo_last=(
            *(["ufw reload"] if active else []),
            *([] if enabled else ["systemctl disable --quiet ufw"]),
            *([] if _SWITCHED in seen.files else [f"rmdir {DIRECTORY} 2>/dev/null"]),
        ),
        differences=_differences(
            seen,
            [rule for rule in _own(fleet, seen) if rule in wanted] + list(missing),
            fleet,
            switched,
        ),
    )


def removed(fleet: str, seen: Seen) -> Change | None:
    """Return what takes a fleet's rules away; what was switched over for it is switched back."""
    own = _own(fleet, seen)
    others = any(rule.comment.startswith(_MARK) and rule not in own for rule in _rules(seen))
    marker = "" if others else seen.files.get(_SWITCHED, "")
    if not own and not marker:
        return None
    active = is_active(seen)
    steps = [_delete(rule) for rule in own]
    if _LET_IN in marker:
        steps.append(Step(command=("ufw", "default", "allow", "incoming")))
    if _WAS_OFF in marker and active:
        steps.append(Step(command=("ufw", "--force", "disable")))
    if marker:
        steps.append(Step(path=_SWITCHED))
        steps.append(Step(command=("rmdir", "--ignore-fail-on-non-empty", DIRECTORY)))
    return Change(
        saved=(*_SAVED, _SWITCHED),
        steps=tuple(steps),
        undo_last=("ufw --force enable",) if active else (),
        differences=_differences(seen, [], fleet, marker and "switched back\n"),
    )


def notes(seen: Seen) -> Iterator[str]:
    """Yield what others have let in."""
    for rule in _rules(seen):
        if not rule.comment.startswith(_MARK) and rule.text.startswith(("allow", "limit")):
            yield f"a rule of others lets in: ufw {rule.text}"


def _rules(seen: Seen) -> Iterator[_Rule]:
    for line in seen.answer(_ADDED.name).output.splitlines():
        if line.startswith("ufw "):
            words = shlex.split(line)[1:]
            if "comment" in words:
                at = words.index("comment")
                yield _Rule(" ".join(words[:at]), " ".join(words[at + 1 :]))
            else:
                yield _Rule(" ".join(words), "")


def _own(fleet: str, seen: Seen) -> list[_Rule]:
    return [rule for rule in _rules(seen) if rule.comment.startswith(f"{_MARK}{fleet}: ")]


def _words(rule: _Rule, opening: Opening) -> tuple[str, ...]:
    """Return how ufw is told to add a rule."""
    if not rule.text.startswith("allow from"):
        # For one family only.
        port = ("to", "any", "port", str(opening.port), "proto", opening.protocol)
        return ("allow", "from", opening.source, *port)
    return tuple(rule.text.split())


def _delete(rule: _Rule) -> Step:
    words = rule.text.split()
    if words[1] != "from":
        port, _, protocol = words[1].partition("/")
        everybody = "::/0" if rule.comment.endswith("(IPv6)") else "0.0.0.0/0"
        words = ["allow", "from", everybody, "to", "any", "port", port, "proto", protocol]
    return Step(command=("ufw", "delete", *words))


def _default(seen: Seen) -> str:
    """Return what becomes of packets that no rule speaks of: ACCEPT, DROP or REJECT."""
    return _setting(seen, "DEFAULT_INPUT_POLICY")


def _setting(seen: Seen, key: str) -> str:
    for line in seen.files.get(_DEFAULTS, "").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == key:
            return value.strip().strip("\"'")
    return ""


def _refuse_ipv6(seen: Seen, openings: Iterable[Opening]) -> None:
    if _setting(seen, "IPV6").lower() != "no":
        return
    for opening in openings:
        if ":" in opening.source:
            raise SpecError(
                f"{opening.purpose} is to be reached from {opening.source}, and its ufw leaves "
                "IPv6 out",
                hint=f"set IPV6=yes in {_DEFAULTS} there, or take the network out of the inventory",
            )


def _differences(
    seen: Seen, after: Iterable[_Rule], fleet: str, switched: str
) -> tuple[Difference, ...]:
    def shown(rules: Iterable[_Rule], default: str) -> str:
        return default + "".join(sorted(f"{rule.text}  # {rule.comment}\n" for rule in rules))

    return (
        Difference(
            what=f"ufw: rules of fleet {fleet}",
            before=shown(_own(fleet, seen), "active\n" if is_active(seen) else "inactive\n"),
            after=shown(after, f"{switched}active\n" if after or not switched else switched),
        ),
    )
