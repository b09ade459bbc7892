"""The files that keep a host's links what they are: after a reboot, whoever manages interfaces.

systemd-networkd is told by drop-ins (netplan's files too are read by it), NetworkManager to leave
a link alone; rings, offloads and queues, and links that nobody manages, are set by a unit of ours.
"""

import shlex
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

DIRECTORY: Final = "/etc/stagefleet-network"
"""Everything of ours that no other program reads."""

APPLY: Final = f"{DIRECTORY}/apply"
BEFORE: Final = f"{DIRECTORY}/before.json"
REFUSED: Final = f"{DIRECTORY}/refused"
UNIT: Final = "stagefleet-links.service"
UNIT_PATH: Final = f"/etc/systemd/system/{UNIT}"
WANTED_PATH: Final = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"
SYSCTLS: Final = "/etc/sysctl.d/90-stagefleet-network.conf"
MANAGER_CONF: Final = "/etc/NetworkManager/conf.d/90-stagefleet.conf"
NETWORKD_DIRECTORY: Final = "/etc/systemd/network"
NETWORKD: Final = "systemd-networkd.service"
NETWORKMANAGER: Final = "NetworkManager.service"
_DROP_IN: Final = "90-stagefleet.conf"
_WRITTEN: Final = "# Written by stagefleet; the next run writes it again."


class Manager(StrEnum):
    """Who sets the addresses of an interface."""

    NETWORKD = "systemd-networkd"
    NETWORKMANAGER = "NetworkManager"
    IFUPDOWN = "ifupdown"
    NOBODY = "nobody"


def networkd_path(interface: str, found: str) -> str:
    """Return where networkd is told about a link.

    Args:
        interface: the link.
        found: the file that networkd reads for it now, such as one that netplan has made; empty:
            there is none.
    """
    own = f"{NETWORKD_DIRECTORY}/05-stagefleet-{interface}.network"
    if found in ("", own):
        return own
    # What the file says besides stays.
    return f"{NETWORKD_DIRECTORY}/{found.rpartition('/')[2]}.d/{_DROP_IN}"


def networkd_text(path: str, interface: str, address: str, mtu: int | None) -> str:
    """Return what networkd is told: of a link that nobody described, everything."""
    match = f"[Match]\nName={interface}\n\n" if path.endswith(".network") else ""
    link = f"[Link]\nMTUBytes={mtu}\n\n" if mtu is not None else ""
    # On a direct cable the other machine's reboot takes the carrier away; the address stays, and
    # with it what listens on it.
    network = f"[Network]\nAddress={address}\nConfigureWithoutCarrier=yes\n"
    own = "IPv6AcceptRA=no\n" if match else ""
    return f"{_WRITTEN}\n{match}{link}{network}{own}"


def manager_mark(interface: str) -> str:
    """Return the line by which a link that NetworkManager leaves alone is known."""
    return f"[device-stagefleet-{interface}]"


def manager_text(interfaces: Iterable[str]) -> str:
    """Return what lets NetworkManager leave links alone."""
    parts = [_WRITTEN]
    for interface in interfaces:
        parts += [
            manager_mark(interface),
            f"match-device=interface-name:{interface}",
            "managed=0",
        ]
    return "\n".join(parts) + "\n"


def sysctl_text(settings: dict[str, str]) -> str:
    """Return the drop-in for systemd-sysctl."""
    return "\n".join([_WRITTEN, *(f"{key} = {value}" for key, value in settings.items())]) + "\n"


UNIT_TEXT: Final = f"""\
{_WRITTEN}
[Unit]
Description=stagefleet: data links as their fleet's inventory says
Documentation=man:ethtool(8)
After=network.target systemd-networkd.service NetworkManager.service networking.service
After=systemd-sysctl.service

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=120
ProtectHome=yes
PrivateTmp=yes
ExecStart=/bin/sh {APPLY}

[Install]
WantedBy=multi-user.target
"""

# What a card or a kernel refuses although it has said that it can is noted, by name, for the next
# look; what a link cannot do without fails.
_FUNCTIONS: Final = f"""\
{_WRITTEN}
set -u
failed=0
refused={REFUSED}
# Usage: try THING VALUE COMMAND...
try() {{
  thing=$1 value=$2
  shift 2
  said=$("$@" 2>&1) || {{
    # ethtool ends so where nothing had to be changed.
    [ "$?" = 80 ] || printf '%s\\t%s\\t%s\\n' "$thing" "$value" "$(echo "$said" | tail -n 1)" \\
      >>"$refused.unfinished"
  }}
}}
must() {{
  "$@" || {{
    echo "failed: $*" >&2
    failed=1
  }}
}}
# Usage: there INTERFACE
there() {{
  for _ in $(seq 60); do
    [ -e "/sys/class/net/$1" ] && return
    sleep 0.5
  done
  echo "there is no interface $1" >&2
  return 1
}}
# Usage: settled INTERFACE ADDRESS [MTU]
settled() {{
  for _ in $(seq 40); do
    mtu=$(cat "/sys/class/net/$1/mtu")
    ip -oneline address show dev "$1" | grep -qF " $2 " && [ "${{3:-$mtu}}" = "$mtu" ] && return
    sleep 0.5
  done
  echo "$1 has MTU $mtu and not the address $2 with MTU ${{3:-$mtu}}" >&2
  return 1
}}
: >"$refused.unfinished"
"""

_SYSCTLS: Final = f"""\
if [ -e {SYSCTLS} ]; then
  while IFS='=' read -r key value; do
    case $key in
      '#'*) ;;
      *) try "${{key% }}" "${{value# }}" sysctl -q -w "${{key% }}=${{value# }}" ;;
    esac
  done <{SYSCTLS}
fi
"""
_END: Final = """\
mv "$refused.unfinished" "$refused"
exit "$failed"
"""


class Applied(NamedTuple):
    """What the unit does about one link.

    Attributes:
        address: with the length of its network's prefix.
        mtu: in bytes; None: as it is.
        settings: of its card: the key, the value and the words of the command.
    """

    interface: str
    address: str
    mtu: int | None
    manager: Manager
    settings: tuple[tuple[str, ...], ...]


def apply_text(links: Iterable[Applied]) -> str:
    """Return the script of the unit."""
    lines = []
    for name, address, mtu, manager, settings in links:
        lines.append(f"must there {name}")
        if manager is not Manager.NETWORKD:
            if mtu is not None:
                lines.append(f"must ip link set dev {name} mtu {mtu}")
            lines.append(f"must ip address replace {address} dev {name}")
            lines.append(f"must ip link set dev {name} up")
        for key, value, *command in settings:
            lines.append(f"try {shlex.quote(f'{name} {key}')} {value} {shlex.join(command)}")
        lines.append(f"must settled {name} {address} {mtu or ''}".rstrip())
    return f"#!/bin/sh\n{_FUNCTIONS}{chr(10).join(lines)}\n{_SYSCTLS}{_END}"


def refused_of(text: str) -> dict[tuple[str, str], str]:
    """Return why things were refused, by the thing and its value, from what `apply` has noted."""
    found = {}
    for line in text.splitlines():
        thing, value, said = (*line.split("\t"), "", "")[:3]
        found[thing, value] = said
    return found
