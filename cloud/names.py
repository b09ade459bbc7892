"""Names and marks of what is made in a cloud: derived, never stored."""

import hashlib
import re
from typing import Final

ALL: Final = "*"
"""The group that every host of a cloud is in; no host can have this name."""

PRODUCT: Final = "stagefleet"
FLEET_MARK: Final = f"{PRODUCT}-fleet"
OWNER_MARK: Final = f"{PRODUCT}-owner"
HOST_MARK: Final = f"{PRODUCT}-host"
"""The tag or label by which an instance, whoever made it, says which host of a fleet it is."""

GROUP_MARK: Final = f"{PRODUCT}-group"
"""The tag with a group's plain name: what a cloud calls it may be shortened, and is made plain."""

_DIGEST: Final = 8


def group_prefix(fleet: str) -> str:
    """Return what the names of a fleet's groups begin with; those of others' may begin alike."""
    return f"{PRODUCT}-{fleet}-"


def digest(text: str) -> str:
    """Return a few characters that no other text has."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]


def shortened(name: str, longest: int, whole: str) -> str:
    """Return a name of at most `longest` characters that ends in the digest of `whole`."""
    return f"{name[: longest - _DIGEST - 1].rstrip('-')}-{digest(whole)}"


def group_name(fleet: str, group: str, longest: int = 63) -> str:
    """Return what a group is called in a cloud, at most `longest` characters (RFC 1035).

    Hosts may be called what no cloud allows; such a name is made plain, and gets a digest so that
    it is nobody else's.
    """
    plain = "all" if group == ALL else re.sub(r"[^a-z0-9-]+", "-", group.lower()).strip("-")
    name = f"{group_prefix(fleet)}{plain}"
    # A host may be called "all", too.
    if (plain == group or group == ALL) and group != "all" and len(name) <= longest:
        return name
    return shortened(name, longest, group)


def marks_of_host(fleet: str, owner: str, host: str) -> dict[str, str]:
    """Return the tags of an instance that is made for a host."""
    return {FLEET_MARK: fleet, OWNER_MARK: owner, HOST_MARK: host}


def label_of(host: str) -> str:
    """Return a host's name as a label of an instance, for clouds that allow but plain ones.

    It is the name itself where that is at most 63 of a-z, 0-9, "_" and "-".
    """
    longest = 63
    if re.fullmatch(rf"[a-z0-9_-]{{1,{longest}}}", host):
        return host
    plain = re.sub(r"[^a-z0-9_-]+", "-", host.lower()).strip("-")
    return shortened(plain, longest, host)


def rule_mark(purpose: str) -> str:
    """Return the description that a rule of ours carries."""
    return f"{PRODUCT}: {purpose}"


def purpose_of(description: str) -> str | None:
    """Return the purpose that `rule_mark` wrote, or None if the rule is somebody else's."""
    mark = rule_mark("")
    return description.removeprefix(mark) if description.startswith(mark) else None
