"""firewalld: a policy of our own for each fleet, in front of the zones of others."""

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final
from xml.sax.saxutils import escape

from runtime.spec.answers import Probe, Seen
from runtime.spec.errors import SpecError
from runtime.spec.firewalls.seen import DIRECTORY
from runtime.spec.openings import Opening
from runtime.spec.undoing import Change, Check, Step, difference

NAME: Final = "firewalld"
_SYSTEM: Final = "/etc/firewalld"
_POLICIES: Final = f"{_SYSTEM}/policies"
_CONF: Final = f"{_SYSTEM}/firewalld.conf"
_SWITCHED: Final = f"{DIRECTORY}/firewalld"
NOT_RUNNING: Final = 252
"""How `firewall-cmd --state` ends where firewalld is installed and does not run."""

WORKS: Final = Probe(name=NAME, command=("firewall-cmd", "--state"))
_ZONES: Final = Probe(
    name="firewalld_zones", command=("firewall-cmd", "--list-all-zones"), needs=NAME
)
_KEPT: Final = Probe(
    name="firewalld_kept", command=("firewall-cmd", "--permanent", "--list-all-zones"), needs=NAME
)
FILES: Final = (f"{_POLICIES}/stagefleet-*.xml", _CONF)


def probes(fleet: str) -> tuple[Probe, ...]:
    """Return what to ask a host."""
    rules = ("firewall-cmd", f"--policy={policy_of(fleet)}", "--list-rich-rules")
    return (
        WORKS,
        Probe(name="firewalld_rules", command=rules, needs=NAME),
        _ZONES,
        _KEPT,
    )


def is_active(seen: Seen) -> bool:
    """Return whether firewalld runs."""
    return seen.answer(NAME).code == 0


def switched_on(seen: Seen) -> bool:
    """Return whether it was switched on for a fleet."""
    return _SWITCHED in seen.files


def policy_of(fleet: str) -> str:
    """Return the name of a fleet's policy: firewalld takes 18 characters."""
    return f"stagefleet-{hashlib.sha256(fleet.encode()).hexdigest()[:7]}"


def file_of(fleet: str) -> str:
    """Return the path of a fleet's policy."""
    return f"{_POLICIES}/{policy_of(fleet)}.xml"


def policy(fleet: str, openings: Iterable[Opening]) -> str:
    """Return a fleet's policy.

    To the fleet's own ports nobody else comes in, also where a zone would let them, as firewalld's
    own zones do with ssh. What is for other ports goes on to the zones.
    """
    openings = tuple(openings)
    lines = []
    for opening in openings:
        version = ipaddress.ip_network(opening.source).version
        lines.append(
            f'  <rule family="ipv{version}"><source address="{opening.source}"/>'
            f'<port port="{opening.port}" protocol="{opening.protocol}"/><accept/></rule>'
            f"  <!-- {escape(opening.purpose)} -->\n"
        )
    for port, protocol in _ports(openings):
        lines.append(
            f'  <rule priority="1"><port port="{port}" protocol="{protocol}"/><drop/></rule>\n'
        )
    return f"""\
<?xml version="1.0" encoding="utf-8"?>
<policy target="CONTINUE" priority="-10">
  <short>stagefleet {fleet}</short>
  <description>Written by stagefleet; the next run writes it again.</description>
  <ingress-zone name="ANY"/>
  <egress-zone name="HOST"/>
{"".join(lines)}</policy>
"""


def installed(fleet: str, openings: Iterable[Opening], seen: Seen) -> Change | None:
    """Return what makes a host let in these openings, or None if it does that already.

    Raises:
        SpecError: firewalld would lose what others have told it.
    """
    openings = tuple(openings)
    path, text = file_of(fleet), policy(fleet, openings)
    active = is_active(seen)
    loaded = set(seen.answer("firewalld_rules").output.splitlines())
    enabled = seen.unit("firewalld.service").get("UnitFileState") == "enabled"
    same = seen.files.get(path) == text and loaded == _rich_rules(openings)
    if same and active and enabled:
        return None
    _refuse_losses(seen)
    on: tuple[Step, ...] = ()
    if not active or not enabled:
        on = (
            *([] if active else [Step(path=_SWITCHED, text="was off\n")]),
            Step(command=("systemctl", "enable", "--quiet", "--now", "firewalld")),
        )
    return Change(
        checks=(
            Check(
                copied=_SYSTEM,
                files={f"policies/{policy_of(fleet)}.xml": text},
                command=(
                    *("firewall-offline-cmd", "--system-config", "{directory}"),
                    "--check-config",
                ),
            ),
        ),
        saved=(path, _SWITCHED),
        steps=(
            Step(path=path, text=text),
            *([Step(command=("firewall-cmd", "--reload"))] if active else []),
            *on,
        ),
        undo_first=() if enabled else ("systemctl disable --quiet firewalld",),
        undo_last=(
            "firewall-cmd --reload" if active else "systemctl stop --no-block firewalld",
            *([] if switched_on(seen) else [f"rmdir {DIRECTORY} 2>/dev/null"]),
        ),
        differences=(difference(path, seen.files.get(path), text),),
    )


def removed(fleet: str, seen: Seen) -> Change | None:
    """Return what takes a fleet's policy away; firewalld stops if it was started for a fleet.

    Raises:
        SpecError: firewalld would lose what others have told it.
    """
    path = file_of(fleet)
    others = any(
        name.startswith(f"{_POLICIES}/stagefleet-") and name != path for name in seen.files
    )
    off = switched_on(seen) and not others
    if path not in seen.files and not off:
        return None
    active = is_active(seen)
    if off:
        ends = [
            Step(command=("systemctl", "disable", "--quiet", "--now", "firewalld")),
            Step(path=_SWITCHED),
            Step(command=("rmdir", "--ignore-fail-on-non-empty", DIRECTORY)),
        ]
        undo: tuple[str, ...] = (
            "systemctl enable --quiet firewalld",
            "systemctl start --no-block firewalld",
        )
    else:
        _refuse_losses(seen)
        ends = [Step(command=("firewall-cmd", "--reload"))] if active else []
        undo = ("firewall-cmd --reload",) if active else ()
    return Change(
        saved=(path, _SWITCHED),
        steps=(Step(path=path), *ends),
        undo_last=undo,
        differences=(difference(path, seen.files.get(path), None),),
    )


def notes(seen: Seen) -> Iterator[str]:
    """Yield what the zones of others let in."""
    default = "public"
    for line in seen.files.get(_CONF, "").splitlines():
        if line.startswith("DefaultZone="):
            default = line.partition("=")[2].strip()
    for block in seen.answer(_ZONES.name).output.split("\n\n"):
        lines = [line for line in block.splitlines() if line.strip()]
        zone, _, state = lines[0].partition(" ") if lines else ("", "", "")
        if not zone or (zone != default and "active" not in state):
            continue
        rows = (line.strip().partition(": ") for line in lines[1:])
        found = {key: value.strip() for key, _, value in rows}
        let_in = [
            f"{key} {found[key]}" for key in ("services", "ports", "protocols") if found.get(key)
        ]
        if found.get("target") == "ACCEPT":
            let_in.append("everything")
        if let_in:
            yield f"zone {zone} of others lets in: {', '.join(let_in)}"


def _ports(openings: Iterable[Opening]) -> tuple[tuple[int, str], ...]:
    return tuple(dict.fromkeys((opening.port, opening.protocol) for opening in openings))


def _rich_rules(openings: tuple[Opening, ...]) -> set[str]:
    """Return a policy's rules as firewalld shows them."""
    let_in = {
        f'rule family="ipv{ipaddress.ip_network(opening.source).version}" '
        f'source address="{opening.source}" '
        f'port port="{opening.port}" protocol="{opening.protocol}" accept'
        for opening in openings
    }
    return let_in | {
        f'rule priority="1" port port="{port}" protocol="{protocol}" drop'
        for port, protocol in _ports(openings)
    }


def _refuse_losses(seen: Seen) -> None:
    """Refuse to reload a firewalld that was told something which it has not been told to keep."""
    if is_active(seen) and _plain(seen.answer(_ZONES.name).output) != _plain(
        seen.answer(_KEPT.name).output
    ):
        raise SpecError(
            "its firewalld has changes that are not permanent, which the reload after a new rule "
            "would lose",
            hint="keep them with firewall-cmd --runtime-to-permanent there, or drop them with "
            "firewall-cmd --reload",
        )


def _plain(zones: str) -> list[str]:
    """Return what zones say, without what only a running firewalld knows."""
    lines = []
    for line in zones.splitlines():
        if line.strip().startswith("interfaces:"):
            continue
        # "public (active)", "public (default, active)"
        lines.append(line if line.startswith((" ", "\t")) else line.partition(" (")[0])
    return lines
