"""What a host's links were before the fleet came: kept on the host, and put back when it goes."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping

from pydantic import ValidationError

from runtime.spec.answers import Seen
from runtime.spec.base import Frozen
from runtime.spec.network.files import BEFORE
from runtime.spec.undoing import Kind

NETWORK = Kind(
    name="network",
    what="the network",
    before=("systemd-networkd.service", "NetworkManager.service", "network-pre.target"),
)


class LinkState(Frozen):
    """How an interface is, or was.

    Attributes:
        addresses: with the lengths of their networks' prefixes.
        told: by the key of each setting of its card, the command that sets it so.
    """

    mtu: int
    up: bool
    addresses: tuple[str, ...]
    told: dict[str, tuple[str, ...]]


class Before(Frozen):
    """What was there before, of what a fleet has changed.

    Attributes:
        files: those that the fleet has made.
        networkd: the links that systemd-networkd manages.
        manager: NetworkManager was told to leave links alone.
    """

    fleet: str
    files: tuple[str, ...]
    links: dict[str, LinkState]
    networkd: tuple[str, ...]
    manager: bool
    sysctls: dict[str, str]

    @property
    def text(self) -> str:
        """What is written on the host."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"


def recorded(seen: Seen) -> Before | None:
    """Return what is written on a host, or None where nothing is, or nothing that is ours."""
    text = seen.files.get(BEFORE)
    if text is None:
        return None
    try:
        return Before.model_validate_json(text)
    except ValidationError:
        return None


def renewed(networkd: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Return the commands by which networkd reads its files again and does what they say."""
    links = tuple(networkd)
    if not links:
        return ()
    return (("networkctl", "reload"), ("networkctl", "reconfigure", *links))


def restoring(state: Before, made: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a shell's script that put interfaces and settings back.

    Args:
        state: what to go back to; its files are back already.
        made: by interface, the address that the fleet has given it.
    """
    yield from map(shlex.join, renewed(state.networkd))
    for name, link in state.links.items():
        if name in made and made[name] not in link.addresses:
            yield shlex.join(("ip", "address", "delete", made[name], "dev", name))
        yield shlex.join(("ip", "link", "set", "dev", name, "mtu", str(link.mtu)))
        yield shlex.join(("ip", "link", "set", "dev", name, "up" if link.up else "down"))
        yield from (shlex.join(command) for command in link.told.values())
    for key, value in state.sysctls.items():
        yield shlex.join(("sysctl", "-q", "-w", f"{key}={value}"))
    if state.manager:
        yield shlex.join(("systemctl", "reload", "NetworkManager.service"))
