"""A change of a host that undoes itself unless it is confirmed, as plain data.

It is decided on the operator's side and carried out by a role's module
(`playbooks/module_utils/undoing.py`), which knows neither firewalls nor networks: it saves the
files, arms the undoing, takes the steps, and asks whether the host is still there.
"""

import shlex
from collections.abc import Iterable
from typing import Final

from pydantic import Field

from runtime.spec.base import Frozen

_UNITS: Final = "/etc/systemd/system"


class Kind(Frozen):
    """What is changed: changes of one kind wait for each other, those of two kinds do not.

    Attributes:
        name: part of the names of directories and units.
        what: the same for people.
        before: the units that must not start before a change that was cut short is undone.
    """

    name: str
    what: str
    before: tuple[str, ...]

    @property
    def state(self) -> str:
        """Where a change waits for its confirmation; it survives a reboot, which undoes it."""
        return f"/var/lib/stagefleet-{self.name}"

    @property
    def armed(self) -> str:
        """The file that is there as long as a change waits."""
        return f"{self.state}/armed"

    @property
    def lock(self) -> str:
        """What who changes or undoes something holds meanwhile."""
        return f"/run/stagefleet-{self.name}.lock"

    @property
    def unit(self) -> str:
        """The name of the timer that undoes a change, and of its service."""
        return f"stagefleet-{self.name}-undo"

    def saved_as(self, number: int) -> str:
        """Return where a file's text is kept until the change is confirmed."""
        return f"{self.state}/saved/{number}"


FIREWALL: Final = Kind(
    name="firewall",
    what="the firewall",
    before=(
        *("stagefleet-firewall.service", "nftables.service", "ufw.service", "firewalld.service"),
        "network-pre.target",
    ),
)


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

    def arming(self, kind: Kind) -> dict[str, str]:
        """Return the files that undo it, by path, unless somebody confirms it."""
        return {
            f"{kind.state}/undo": _script(self, kind),
            f"{_UNITS}/{kind.unit}.service": _service(kind),
            f"{_UNITS}/{kind.unit}.timer": _timer(kind),
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


def _script(change: Change, kind: Kind) -> str:
    put_back = (
        f"put_back {shlex.quote(path)} {kind.saved_as(number)}"
        for number, path in enumerate(change.saved)
    )
    lines = "\n".join((*change.undo_first, *put_back, *change.undo_last))
    unit = f"{_UNITS}/{kind.unit}"
    return f"""\
#!/bin/sh
# Undoes a change of {kind.what} of this host that nobody has confirmed. Every line is tried,
# whatever becomes of the others.
put_back() {{
  if [ -e "$2" ]; then
    # As a whole or not at all, whatever the disk has room for.
    mkdir -p "$(dirname "$1")" && cp -p "$2" "$1.undone" && mv -f "$1.undone" "$1"
  else
    rm -f "$1"
  fi
}}
main() {{
exec 9>{kind.lock}
# A change that hangs is undone nevertheless.
flock --timeout 10 9
[ -e {kind.armed} ] || exit 0
{lines}
systemctl disable --quiet {kind.unit}.service
rm -rf {unit}.service {unit}.timer {kind.state}
systemctl daemon-reload
exit 0
}}
main
"""


# Long enough to come back over a new connection, short enough for who is locked out meanwhile.
_SECONDS: Final = 45


def _timer(kind: Kind) -> str:
    return f"""\
[Unit]
Description=Time to confirm a change of {kind.what}

[Timer]
OnActiveSec={_SECONDS}s
AccuracySec=1s
"""


def _service(kind: Kind) -> str:
    # A host that reboots, or loses its power, before the change was confirmed undoes it when it
    # boots: before anything of this kind is loaded.
    return f"""\
[Unit]
Description=Undo a change of {kind.what} that nobody has confirmed
DefaultDependencies=no
ConditionPathExists={kind.armed}
RequiresMountsFor={kind.state}
After=local-fs.target systemd-remount-fs.service
Before={" ".join(kind.before)}
Wants=network-pre.target

[Service]
Type=oneshot
ExecStart=/bin/sh {kind.state}/undo

[Install]
WantedBy=sysinit.target
"""
