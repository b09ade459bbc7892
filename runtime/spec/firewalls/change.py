"""A change of a host that undoes itself unless it is confirmed, as plain data.

It is decided on the operator's side and carried out by the role `host_firewall`, which knows no
firewall: it saves the files, arms the undoing, takes the steps, and asks whether it is still there.
"""

import shlex
from collections.abc import Iterable
from typing import Final

from pydantic import Field

from runtime.spec.base import Frozen

STATE: Final = "/var/lib/stagefleet-firewall"
"""Where a change waits for its confirmation; it survives a reboot, which undoes the change."""

ARMED: Final = f"{STATE}/armed"
LOCK: Final = "/run/stagefleet-firewall.lock"
UNDO_UNIT: Final = "stagefleet-firewall-undo"
_UNITS: Final = "/etc/systemd/system"


class Step(Frozen):
    """One thing to do on a host.

    Attributes:
        path: a file to write; without a command and without a text it is removed.
        text: what to write.
        command: a program to run; with a path, what it prints is written there.
    """

    path: str = ""
    text: str | None = None
    command: tuple[str, ...] = ()


class Check(Frozen):
    """What a tool itself thinks of files, asked before they replace any.

    Attributes:
        copied: a directory of the host whose files it has to see too, or nothing.
        files: the files, by their names in a directory that is made for them.
        command: the question; `{directory}` stands for that directory.
    """

    copied: str = ""
    files: dict[str, str] = Field(default_factory=dict)
    command: tuple[str, ...]


class Difference(Frozen):
    """What changes, for people."""

    what: str
    before: str
    after: str


class Change(Frozen):
    """Everything to do on a host, and how to undo it.

    Attributes:
        saved: the files that it touches.
        undo_first: lines of a shell's script that come before these files are put back.
        undo_last: lines that come after it.
    """

    checks: tuple[Check, ...] = ()
    saved: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    undo_first: tuple[str, ...] = ()
    undo_last: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def arming(self) -> dict[str, str]:
        """The files that undo it, by path, unless somebody confirms it."""
        return {
            f"{STATE}/undo": _script(self),
            f"{_UNITS}/{UNDO_UNIT}.service": _SERVICE,
            f"{_UNITS}/{UNDO_UNIT}.timer": _TIMER,
        }


def joined(changes: Iterable[Change | None]) -> Change | None:
    """Return one change that does all of these in their order, or None if there is none."""
    found = [change for change in changes if change is not None]
    if not found:
        return None
    return Change(
        checks=tuple(check for change in found for check in change.checks),
        saved=tuple(dict.fromkeys(path for change in found for path in change.saved)),
        steps=tuple(step for change in found for step in change.steps),
        undo_first=tuple(line for change in found for line in change.undo_first),
        undo_last=tuple(line for change in found for line in change.undo_last),
        differences=tuple(one for change in found for one in change.differences),
    )


def difference(path: str, before: str | None, after: str | None) -> Difference:
    """Return how a file changes; None: there is no such file."""
    return Difference(what=path, before=before or "", after=after or "")


def saved_as(number: int) -> str:
    """Return where a file's text is kept until the change is confirmed."""
    return f"{STATE}/saved/{number}"


def _script(change: Change) -> str:
    put_back = (
        f"put_back {shlex.quote(path)} {saved_as(number)}"
        for number, path in enumerate(change.saved)
    )
    lines = "\n".join((*change.undo_first, *put_back, *change.undo_last))
    return f"""\
#!/bin/sh
# Undoes a change of this host's firewall that nobody has confirmed. Every line is tried, whatever
# becomes of the others.
put_back() {{
  if [ -e "$2" ]; then
    # As a whole or not at all, whatever the disk has room for.
    mkdir -p "$(dirname "$1")" && cp -p "$2" "$1.undone" && mv -f "$1.undone" "$1"
  else
    rm -f "$1"
  fi
}}
main() {{
exec 9>{LOCK}
# A change that hangs is undone nevertheless.
flock --timeout 10 9
[ -e {ARMED} ] || exit 0
{lines}
systemctl disable --quiet {UNDO_UNIT}.service
rm -rf {_UNITS}/{UNDO_UNIT}.service {_UNITS}/{UNDO_UNIT}.timer {STATE}
systemctl daemon-reload
exit 0
}}
main
"""


# Long enough to come back over a new connection, short enough for who is locked out meanwhile.
_SECONDS: Final = 45
_TIMER: Final = f"""\
[Unit]
Description=Time to confirm a change of the firewall

[Timer]
OnActiveSec={_SECONDS}s
AccuracySec=1s
"""
# A host that reboots, or loses its power, before the change was confirmed undoes it when it boots:
# before any firewall is loaded.
_SERVICE: Final = f"""\
[Unit]
Description=Undo a change of the firewall that nobody has confirmed
DefaultDependencies=no
ConditionPathExists={ARMED}
RequiresMountsFor={STATE}
After=local-fs.target systemd-remount-fs.service
Before=stagefleet-firewall.service nftables.service ufw.service firewalld.service
Before=network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
ExecStart=/bin/sh {STATE}/undo

[Install]
WantedBy=sysinit.target
"""
