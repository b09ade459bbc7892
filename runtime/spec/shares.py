"""Directories that a host shares with others: what an operator writes, and what is refused.

Everything here is decided before the first connection; `share_plan.py` says what becomes of it.
"""

import difflib
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from runtime.spec.base import Frozen, Name

DEFAULT_ROOT: Final = "/srv"
EXPORTS: Final = "/srv/stagefleet"
"""Below it, by fleet and name, everything that is shared is mounted a second time."""

# Nothing that exports, units of systemd, smb.conf or mount would read otherwise than it is meant.
_PLAIN: Final = r"^(/[A-Za-z0-9_.@+=-]+)+$"
# What is mounted over these, or inside of the second kind, takes a host apart.
_SYSTEM: Final = ("/home", "/mnt", "/opt", "/srv", "/var")
_SYSTEM_TREES: Final = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin"),
    *("/sys", "/tmp", "/usr"),  # noqa: S108 - named in order to refuse it
)

Protocol = Literal["nfs", "smb"]


def _normal(value: str) -> str:
    if posixpath.normpath(value) != value:
        raise ValueError(f"{value} leads elsewhere than it says: write {posixpath.normpath(value)}")
    return value


Directory = Annotated[str, Field(pattern=_PLAIN), AfterValidator(_normal)]
"""An absolute path without spaces, `..` or signs that the files of a system give a meaning."""


class Share(Frozen):
    """A directory of one host that others see as if it were their own."""

    name: Name = Field(description="what units, exports and messages call it")
    host: str = Field(description="the host whose directory it is")
    path: Directory = Field(
        description="the directory there, below the host's share_root; it is made if it is missing "
        "and never removed"
    )
    kind: Literal["models", "projects", "cache"] = Field(
        default="models", description="models are read-only; projects and cache may be written"
    )
    protocol: Protocol = Field(
        default="nfs",
        description="nfs: version 4.2, between hosts of a private network only, because it is not "
        "encrypted; smb: version 3.1.1, signed and encrypted, with users and passwords",
    )
    readers: tuple[str, ...] = Field(
        default=(), description="the hosts that mount it; nobody else gets in"
    )
    mount: Directory | None = Field(
        default=None, description="where readers mount it; default: the same path"
    )
    users: tuple[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")], ...] = Field(
        default=(),
        description="smb: who may log in, with the passwords of the variable "
        "vault_share_passwords; hosts mount it as the first of them",
    )
    fs_cache: bool = Field(
        default=False,
        description="nfs: readers keep what they have read on their own disk (cachefilesd), where "
        "their kernel can",
    )

    @property
    def writable(self) -> bool:
        """Whether readers may write."""
        return self.kind != "models"

    @property
    def mounted_at(self) -> str:
        """Where its readers mount it."""
        return self.mount or self.path


def is_within(path: str, directory: str) -> bool:
    """Return whether a path is a directory or lies below it."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def share_problems(
    shares: tuple[Share, ...], roots: Mapping[str, str], smb_networks: bool
) -> Iterator[str]:
    """Yield what is wrong with a fleet's shares, one finding each.

    Args:
        shares: all of them.
        roots: by each host of the fleet, the directory below which everything lies that it shares.
        smb_networks: whether people of some network may reach shares over SMB.
    """
    for name, count in Counter(share.name for share in shares).items():
        if count > 1:
            yield f"{count} shares are called '{name}'"
    for share in shares:
        yield from _problems_of(share, roots, smb_networks)
    yield from _overlaps(shares)
    yield from _mount_overlaps(shares)


def _problems_of(share: Share, roots: Mapping[str, str], smb_networks: bool) -> Iterator[str]:
    where = f"share {share.name}"
    for host in (share.host, *share.readers):
        if host not in roots:
            near = difflib.get_close_matches(host, roots, n=1)
            yield f"{where}: '{host}' is no host of the fleet" + (
                f"; did you mean '{near[0]}'?" if near else ""
            )
    if share.host in share.readers:
        yield f"{where}: {share.host} has the directory itself: take it out of readers"
    root = roots.get(share.host, DEFAULT_ROOT)
    if not is_within(share.path, root) or share.path == root:
        yield (
            f"{where}: path {share.path} is outside of {root}, the root of what {share.host} "
            f"shares: move it below, or set fleet_host.share_root of {share.host}"
        )
    if is_within(share.path, EXPORTS) or is_within(EXPORTS, share.path):
        yield (
            f"{where}: path {share.path} overlaps {EXPORTS}, below which shares are exported: "
            "choose another directory"
        )
    if share.mounted_at in _SYSTEM or any(
        is_within(share.mounted_at, tree) for tree in (*_SYSTEM_TREES, EXPORTS)
    ):
        yield (
            f"{where}: mount {share.mounted_at} would hide what a host needs to run: choose a "
            f"directory such as /srv/{share.name}"
        )
    yield from _protocol_problems(share, smb_networks)


def _protocol_problems(share: Share, smb_networks: bool) -> Iterator[str]:
    where = f"share {share.name}"
    if share.protocol == "smb":
        if not share.users:
            yield f"{where}: smb lets in nobody without a name: add users"
        if share.fs_cache:
            yield f"{where}: fs_cache is for nfs: take it out"
        if not share.readers and not smb_networks:
            yield (
                f"{where}: nobody may read it: add hosts to readers, or a row for smb to "
                "fleet.access"
            )
        return
    if share.users:
        yield f"{where}: nfs knows hosts and no users: take users out, or set protocol: smb"
    if not share.readers:
        yield f"{where}: nobody may read it: add hosts to readers"


def _overlaps(shares: tuple[Share, ...]) -> Iterator[str]:
    for number, one in enumerate(shares):
        for other in shares[number + 1 :]:
            if one.host != other.host:
                continue
            twice = one.path == other.path and one.kind == other.kind
            if twice and one.protocol != other.protocol:
                # The same for those who speak NFS and for those who speak SMB.
                continue
            if is_within(one.path, other.path) or is_within(other.path, one.path):
                yield (
                    f"shares {one.name} and {other.name} overlap: {one.path} and {other.path} of "
                    f"{one.host}, so that the rules of one would hold for the other"
                )


def _mount_overlaps(shares: tuple[Share, ...]) -> Iterator[str]:
    places: dict[str, list[tuple[str, str]]] = {}
    for share in shares:
        for reader in dict.fromkeys(share.readers):
            places.setdefault(reader, []).append((share.mounted_at, f"mount of {share.name}"))
        places.setdefault(share.host, []).append((share.path, ""))
    for host, found in places.items():
        for number, (one, what) in enumerate(found):
            for other, what_other in found[number + 1 :]:
                # Two that are no mounts are two shares of one host: see above.
                if (what or what_other) and (is_within(one, other) or is_within(other, one)):
                    said = " and ".join(
                        f"{path} ({text or 'shared by it'})"
                        for path, text in ((one, what), (other, what_other))
                    )
                    yield f"host {host}: {said} overlap: give one share another mount"
