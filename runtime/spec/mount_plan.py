"""What a host needs to see directories of others: units of systemd that mount them when needed."""

from collections.abc import Iterator
from typing import Final

from runtime.spec.base import Frozen
from runtime.spec.fleet import Fleet
from runtime.spec.links import link
from runtime.spec.services import NFS, SMB
from runtime.spec.share_files import (
    SETTINGS,
    UNITS,
    ShareFile,
    expression,
    label,
    marked,
    place_of,
    unit_name,
)
from runtime.spec.shares import Share

_MOUNTS: Final = "mounts"
# The kernel allows 16 (nfs(5), nconnect). One connection is one queue of one card.
_CONNECTIONS: Final = 4
_READ_BYTES: Final = 2**20  # The most that Linux asks for at once (nfs(5), rsize).
_MOUNT_SECONDS: Final = 30


class Credential(Frozen):
    """A file from which a reader takes a user's password."""

    path: str
    user: str


class MountPlan(Frozen):
    """What a host needs to see others' directories.

    Attributes:
        managed: the inventory speaks of shares; of others nothing is known, and nothing is done.
        mark: an expression for a line that every file has which is made for this.
        label: that line.
        units: of systemd, that mount a directory once somebody looks into it.
        fs_cache: some of it is kept on the host's own disk, where its kernel can.
        seconds: how long a directory may take to appear before it counts as unreachable.
    """

    managed: bool
    mark: str
    label: str
    packages: tuple[str, ...] = ()
    files: tuple[ShareFile, ...] = ()
    units: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()
    fs_cache: bool = False
    seconds: int = _MOUNT_SECONDS


def mount_plan(fleet: Fleet, host: str, shares: tuple[Share, ...]) -> MountPlan:
    """Return what a host needs to see these shares of others."""
    empty = MountPlan(
        managed=fleet.shares is not None,
        mark=expression(fleet, _MOUNTS),
        label=label(fleet, _MOUNTS),
    )
    if not shares:
        return empty
    nfs = any(share.protocol == NFS.name for share in shares)
    smb = tuple(share for share in shares if share.protocol == SMB.name)
    fs_cache = any(share.fs_cache for share in shares)
    packages = (
        *(("nfs-common",) if nfs else ()),
        *(("cifs-utils",) if smb else ()),
    )
    made = {
        "packages": packages,
        "files": tuple(file for share in shares for file in _mount_units(fleet, host, share)),
        "units": tuple(unit_name(share.mounted_at, "automount") for share in shares),
        "places": tuple(share.mounted_at for share in shares),
        "credentials": tuple(
            Credential(path=_credentials(fleet, user), user=user)
            for user in sorted({share.users[0] for share in smb})
        ),
        "fs_cache": fs_cache,
    }
    return empty.model_copy(update=made)


def _credentials(fleet: Fleet, user: str) -> str:
    return f"{SETTINGS}/{fleet.name}.{user}.credentials"


def _mount_units(fleet: Fleet, host: str, share: Share) -> Iterator[ShareFile]:
    address = link(fleet, host, share.host).address
    ports, where = fleet.hosts[share.host].ports, share.mounted_at
    if share.protocol == NFS.name:
        server = f"[{address}]" if ":" in address else address
        kind, source = "nfs4", f"{server}:{place_of(fleet)}/{share.name}"
        options = [
            f"vers=4.2,proto=tcp,port={ports.nfs},sec=sys,hard,nconnect={_CONNECTIONS}",
            f"rsize={_READ_BYTES},wsize={_READ_BYTES}",
            *(("fsc",) if share.fs_cache else ()),
        ]
    else:
        kind, source = "cifs", f"//{address}/{share.name}"
        options = [
            f"vers=3.1.1,seal,sign,port={ports.smb},hard,nosharesock",
            f"credentials={_credentials(fleet, share.users[0])}",
            # The server decides who may do what; here everybody asks as the same user.
            "noperm,file_mode=0666,dir_mode=0777" if share.writable else "noperm",
        ]
    options += ["rw" if share.writable else "ro", "nosuid,nodev,noexec,noatime,_netdev"]
    about = f"stagefleet {fleet.name}: {share.name} of {share.host}"
    mount = f"""
[Unit]
Description={about}
After=network-online.target
Wants=network-online.target

[Mount]
What={source}
Where={where}
Type={kind}
Options={",".join(options)}
TimeoutSec={_MOUNT_SECONDS}
# Also from a server that is dead.
LazyUnmount=yes
"""
    # Mounted when somebody looks into it: a server that is dead holds up no boot.
    automount = f"""
[Unit]
Description={about}, mounted once somebody looks into it

[Automount]
Where={where}

[Install]
WantedBy=multi-user.target
"""
    for ending, text in (("mount", mount), ("automount", automount)):
        path = f"{UNITS}/{unit_name(where, ending)}"
        yield marked(fleet, _MOUNTS, path, text)
