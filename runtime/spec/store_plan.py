"""What a host needs to share its directories: exports, bind mounts and file servers."""

import uuid
from typing import Final

from runtime.spec import smb_config
from runtime.spec.base import Cidr, Frozen, Port
from runtime.spec.fleet import Fleet
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
from runtime.spec.sources import source_of

UID: Final = "@uid@"
GID: Final = "@gid@"
"""What stands in texts for the numbers of a store's account, which the host gives it."""

_SHARES: Final = "shares"
_ACCOUNT_LENGTH: Final = 32  # useradd(8)
# So that two hosts, or two fleets of one host, never give one number to two directories.
_FSID_SPACE: Final = uuid.UUID("6f3c1f0e-8d5b-5c55-9d0f-2f4a3c0a9d11")


class SharedDirectory(Frozen):
    """A directory that others see.

    Attributes:
        place: where it is mounted a second time, as what it is shared as.
    """

    path: str
    place: str
    writable: bool


class StorePlan(Frozen):
    """What a host needs to share its directories.

    Attributes:
        managed: the inventory speaks of shares; of others nothing is known, and nothing is done.
        mark: an expression for a line that every file has which is made for this.
        label: that line.
        place: the directory below which everything that is shared is mounted a second time.
        root: everything that is shared lies below this directory.
        account: whoever reads or writes over the network does it as this one, which nobody can
            log in to.
        keep_account: what was written over the network belongs to it, so that it stays.
        users: who may log in over SMB.
        nfs, smb: by what it shares.
        smb_state: where the file server keeps what it knows, passwords too.
        smb_unit: the file server's service, or empty.
    """

    managed: bool
    mark: str
    label: str
    place: str
    root: str
    account: str
    keep_account: bool = False
    packages: tuple[str, ...] = ()
    directories: tuple[SharedDirectory, ...] = ()
    files: tuple[ShareFile, ...] = ()
    units: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    nfs: bool = False
    smb: bool = False
    smb_state: str
    smb_config: str = ""
    smb_unit: str = ""


def store_plan(fleet: Fleet, host: str, shares: tuple[Share, ...]) -> StorePlan:
    """Return what a host needs to share these directories of its own."""
    empty = StorePlan(
        managed=fleet.shares is not None,
        mark=expression(fleet, _SHARES),
        label=label(fleet, _SHARES),
        place=place_of(fleet),
        root=fleet.hosts[host].share_root,
        account=_account(fleet),
        smb_state=f"/var/lib/stagefleet-shares/{fleet.name}",
    )
    if not shares:
        return empty
    nfs = tuple(share for share in shares if share.protocol == NFS.name)
    smb = tuple(share for share in shares if share.protocol == SMB.name)
    directories = tuple(
        SharedDirectory(
            path=share.path, place=f"{place_of(fleet)}/{share.name}", writable=share.writable
        )
        for share in shares
    )
    files = [
        _bind_unit(fleet, directory, share.protocol == NFS.name)
        for share, directory in zip(shares, directories, strict=True)
    ]
    units = [unit_name(directory.place, "mount") for directory in directories]
    name, ports = fleet.name, fleet.hosts[host].ports
    config, state = f"{SETTINGS}/{name}.smb.conf", empty.smb_state
    if nfs:
        exports = "".join(_export(fleet, share) for share in nfs)
        files.append(marked(fleet, _SHARES, f"/etc/exports.d/stagefleet-{name}.exports", exports))
        versions = _nfs_conf(ports.nfs)
        files.append(marked(fleet, _SHARES, f"/etc/nfs.conf.d/stagefleet-{name}.conf", versions))
    unit = f"stagefleet-{name}-smb.service" if smb else ""
    if smb:
        sections = tuple(
            smb_config.Section(
                name=share.name,
                path=f"{place_of(fleet)}/{share.name}",
                writable=share.writable,
                users=share.users,
                sources=_sources(fleet, share),
            )
            for share in smb
        )
        text = smb_config.config(sections, ports.smb, empty.account, state)
        files.append(marked(fleet, _SHARES, config, text))
        places = [unit_name(f"{place_of(fleet)}/{share.name}", "mount") for share in smb]
        service = smb_config.service(name, config, places)
        files.append(marked(fleet, _SHARES, f"{UNITS}/{unit}", service))
        units.append(unit)
    made = {
        "keep_account": any(share.writable for share in shares),
        "packages": (*(("nfs-kernel-server",) if nfs else ()), *(("samba",) if smb else ())),
        "directories": directories,
        "files": tuple(files),
        "units": tuple(units),
        "users": tuple(sorted({user for share in smb for user in share.users})),
        "nfs": bool(nfs),
        "smb": bool(smb),
        "smb_config": config if smb else "",
        "smb_unit": unit,
    }
    return empty.model_copy(update=made)


def _account(fleet: Fleet) -> str:
    return f"sf-share-{fleet.name}"[:_ACCOUNT_LENGTH]


def _sources(fleet: Fleet, share: Share) -> tuple[Cidr, ...]:
    people = [
        network
        for row in fleet.access
        if row.service == SMB.name and (not row.hosts or share.host in row.hosts)
        for network in row.networks
    ]
    readers = [source_of(fleet, reader, share.host) for reader in share.readers]
    return tuple(dict.fromkeys((*readers, *people)))


def _bind_unit(fleet: Fleet, directory: SharedDirectory, nfs: bool) -> ShareFile:
    # A second guard: whatever an export says, through a read-only mount nobody writes.
    # It starts the server at boot, whose own unit is not enabled: it is not ours.
    wants = "Wants=nfs-server.service\nBefore=nfs-server.service\n" if nfs else ""
    options = "bind,nosuid,nodev" + ("" if directory.writable else ",ro")
    text = f"""
[Unit]
Description=stagefleet {fleet.name}: {directory.path} as it is shared
RequiresMountsFor={directory.path}
{wants}
[Mount]
What={directory.path}
Where={directory.place}
Type=none
Options={options}
# Also while the kernel's file server still looks into it.
LazyUnmount=yes

[Install]
WantedBy=multi-user.target
"""
    return marked(fleet, _SHARES, f"{UNITS}/{unit_name(directory.place, 'mount')}", text)


def _export(fleet: Fleet, share: Share) -> str:
    place = f"{place_of(fleet)}/{share.name}"
    options = ",".join(
        (
            "rw" if share.writable else "ro",
            "sync,secure,sec=sys,root_squash,all_squash",
            f"anonuid={UID},anongid={GID}",
            "no_subtree_check",
            f"fsid={uuid.uuid5(_FSID_SPACE, f'{fleet.name}/{share.host}/{share.name}')}",
        )
    )
    sources = (source_of(fleet, reader, share.host) for reader in dict.fromkeys(share.readers))
    clients = " ".join(f"{source.rpartition('/')[0]}({options})" for source in sources)
    return f"{place} {clients}\n"


def _nfs_conf(port: Port) -> str:
    other = f"port={port}\n" if port != NFS.port else ""
    return f"\n[nfsd]\nvers3=n\nvers4=y\nvers4.0=n\nvers4.1=n\nvers4.2=y\nudp=n\n{other}"
