"""What shares make of a host: exports and mounts as files and units, derived from the fleet.

Why it is so: docs/decisions/0029-a-share-is-what-it-says.md.
"""

from typing import Final

from runtime.spec.base import Frozen
from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet
from runtime.spec.links import link
from runtime.spec.mount_plan import MountPlan, mount_plan
from runtime.spec.services import NFS, SMB
from runtime.spec.share_files import SETTINGS, UNITS
from runtime.spec.shares import Share, is_within
from runtime.spec.store_plan import StorePlan, store_plan

_DIRECTORIES: Final = ("/etc/exports.d", "/etc/nfs.conf.d", SETTINGS, UNITS)


class SharesPlan(Frozen):
    """What one host shares, and what it sees of others.

    Attributes:
        reachable: root can be had there, so that former shares can be looked for at all.
        directories: where files are that are made for this.
    """

    reachable: bool
    directories: tuple[str, ...] = _DIRECTORIES
    store: StorePlan
    mounts: MountPlan


def share_plans(fleet: Fleet) -> dict[str, SharesPlan]:
    """Return what shares make of every host.

    Raises:
        SpecError: a reader cannot reach a share in the way it is meant to be reached.
    """
    shares = fleet.shares or ()
    for share in shares:
        for reader in share.readers:
            _require_way(fleet, share, reader)
    return {
        name: SharesPlan(
            reachable=fleet.install.scope == "system",
            store=store_plan(fleet, name, tuple(s for s in shares if s.host == name)),
            mounts=mount_plan(fleet, name, tuple(s for s in shares if name in s.readers)),
        )
        for name in fleet.hosts
    }


def share_around(fleet: Fleet, host: str, path: str) -> Share | None:
    """Return the share that a host mounts around a path, or None if the path is the host's own."""
    for share in fleet.shares or ():
        if host in share.readers and is_within(path, share.mounted_at):
            return share
    return None


def _require_way(fleet: Fleet, share: Share, reader: str) -> None:
    way = link(fleet, reader, share.host)
    if share.protocol == NFS.name and not way.private:
        raise SpecError(
            f"share {share.name}: {reader} reaches {share.host} over {way.via}, and NFS is not "
            "encrypted and believes every address",
            hint="give both an address in one of fleet.networks that is private: true (a direct "
            f"cable, WireGuard), or set protocol: {SMB.name}",
        )
    if way.mapped:
        raise SpecError(
            f"share {share.name}: {reader} would reach {share.host} through mapped ports, of which "
            "shares have none",
            hint="give both an address in one of fleet.networks",
        )
