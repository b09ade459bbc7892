"""From which addresses hosts are seen to come: what rules about sources have to name."""

import ipaddress

from runtime.spec.base import Cidr
from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet
from runtime.spec.links import Link, link


def source_of(fleet: Fleet, source: str, target: str) -> Cidr:
    """Return the address that connections of `source` come from, as `target` sees them.

    Raises:
        SpecError: the inventory does not say it.
    """
    # The way back: where packets of an address come from is where answers to it go.
    return source_by(link(fleet, target, source), source, target)


def source_by(way: Link, source: str, target: str) -> Cidr:
    """Return what `source_of` does; `way` leads from `target` to `source`.

    Raises:
        SpecError: the address is a name.
    """
    try:
        address = ipaddress.ip_address(way.address)
    except ValueError:
        raise SpecError(
            f"host {source} is known by its name {way.address} only, and the firewall of "
            f"{target} must know the address it comes from",
            hint=f"give {source} a fleet_host.public_ip, or addresses",
        ) from None
    return f"{address}/{address.max_prefixlen}"
