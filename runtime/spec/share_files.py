"""Files and units that shares consist of, and what they are called."""

import re
from typing import Final

from runtime.spec.base import Frozen
from runtime.spec.fleet import Fleet
from runtime.spec.shares import EXPORTS

UNITS: Final = "/etc/systemd/system"
"""Where units of systemd are that an administrator has installed."""
SETTINGS: Final = "/etc/stagefleet-shares"
"""Where files are that nobody else looks for: the file server's configuration, passwords."""


class ShareFile(Frozen):
    """A file that is as it says, or is not there."""

    path: str
    text: str
    mode: str = "0644"


def marked(fleet: Fleet, what: str, path: str, text: str) -> ShareFile:
    """Return a file that says in its first line that it is this fleet's; see `expression`."""
    return ShareFile(path=path, text=f"{label(fleet, what)}\n{text}")


def expression(fleet: Fleet, what: str) -> str:
    """Return the regular expression of that line: `label`."""
    return f"^{re.escape(label(fleet, what))}$"


def label(fleet: Fleet, what: str) -> str:
    """Return the line by which a fleet's files are known."""
    return f"# Written by Ansible: the fleet {fleet.name} {what} this. The next run does so again."


def place_of(fleet: Fleet) -> str:
    """Return the directory below which a fleet's shares are mounted on the host that has them."""
    return f"{EXPORTS}/{fleet.name}"


def unit_name(path: str, kind: str) -> str:
    """Return what systemd calls the unit of a path (systemd.unit(5), "string escaping")."""
    escaped = "".join(
        "-" if sign == "/" else sign if re.match(r"[A-Za-z0-9:_.]", sign) else _hexadecimal(sign)
        for sign in path.strip("/")
    )
    if escaped.startswith("."):
        escaped = f"{_hexadecimal('.')}{escaped[1:]}"
    return f"{escaped}.{kind}"


def _hexadecimal(sign: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in sign.encode())
