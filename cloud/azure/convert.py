"""Azure's security rules: what is to be written into a network security group, and what it says.

Every rule has a priority of its own; the lowest number that fits a connection decides.
"""

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from cloud.azure.fold import Bundle, Names, fold
from cloud.errors import CloudError
from cloud.names import PRODUCT, purpose_of, rule_mark
from cloud.rules import Rule, RuleKey, Source

Json = dict[str, Any]

FIRST: Final = 100
LAST: Final = 4096
_GAP: Final = 10
_HIGHEST_PORT: Final = 65535

_ROOM: Final = "remove rules that others have put there, or name networks instead of addresses"
_CLOSED: Final = "everything else stays out"
_CLOSED_NAME: Final = f"{PRODUCT}-closed"

OPEN: Final = Rule(
    protocol="all",
    first=0,
    last=0,
    source=Source(kind="network", name="the virtual network"),
    purpose="Azure's default, as the rule that keeps everything else out is missing",
)
"""What a host is open to unless a rule of ours denies it: no network is called like its source."""


def allot(
    names: Iterable[str], kept: Mapping[str, int], taken: Collection[int]
) -> tuple[dict[str, int], int]:
    """Return the priority of every rule by its name, and that of the rule that denies the rest.

    A rule keeps the one it has. New ones leave gaps, in which people put rules of their own, while
    there is room for that. The rule that denies comes behind all others of the fleet.

    Args:
        names: the rules' names.
        kept: priorities that rules have; some may not be what they should.
        taken: priorities of others' rules.

    Raises:
        CloudError: there are more rules than priorities.
    """
    free = set(range(FIRST, LAST + 1)) - set(taken)
    if not free:
        raise CloudError("others' rules have taken all priorities", hint=_ROOM)
    last = max(free)
    free.discard(last)
    found: dict[str, int] = {}
    new = []
    for name in names:
        if kept.get(name) in free:
            found[name] = kept[name]
            free.discard(kept[name])
        else:
            new.append(name)
    wide = sorted(number for number in free if number % _GAP == 0)
    narrow = sorted(free.difference(wide))
    if len(new) > len(free):
        raise CloudError(
            f"{len(new)} rules more do not fit into the priorities {FIRST} to {LAST}", hint=_ROOM
        )
    return found | dict(zip(new, wide + narrow, strict=False)), last


def rewritten(
    current: Sequence[Json],
    rules: Mapping[RuleKey, Rule],
    purged: Collection[RuleKey],
    names: Names,
) -> list[Json]:
    """Return all rules that a network security group should have.

    Others' rules stay as they are, those that deny or go outward too. One of them that lets in
    what is to be purged goes if all it lets in does.

    Args:
        current: its rules now.
        rules: the fleet's own.
        purged: what others have let in and is to be shut out.
        names: what groups are called.

    Raises:
        CloudError: there are more rules than priorities.
    """
    gone = set(purged)
    others = []
    for each in current:
        keys = {rule.key for rule in _openings(each, names)}
        if _is_ours(each) or (keys & gone and keys <= gone | rules.keys()):
            continue
        others.append(each)
    bundles = fold(rules.values(), {each["name"].lower() for each in others})
    kept = {each["name"]: _priority(each) for each in current if _is_ours(each)}
    taken = {_priority(each) for each in others if _is(each, "direction", "inbound")}
    priorities, last = allot((bundle.name for bundle in bundles), kept, taken)
    own = [_opening(bundle, priorities[bundle.name], names) for bundle in bundles]
    return [*others, *own, _closing(last, {each["name"].lower() for each in others})]


def listed(current: Iterable[Json], names: Names) -> dict[RuleKey, Rule]:
    """Return what a network security group lets in, `OPEN` among it where nothing denies the rest.

    What others deny is no opening, and so it is not shown: their rules with lower numbers than the
    fleet's shut it out.
    """
    found: dict[RuleKey, Rule] = {}
    own = []
    closing = []
    for each in current:
        if _is_closing(each):
            closing.append(_priority(each))
            continue
        ours = _is_ours(each)
        # What was narrowed by hand no longer lets in what it should.
        if ours and not _is_whole(each):
            continue
        own += [_priority(each)] if ours else []
        for rule in _openings(each, names):
            # Where both let it in, the fleet's own rule is what counts.
            if ours or rule.key not in found:
                found[rule.key] = rule
    # One that comes before the others is in their way: it is missing behind them.
    if min(closing, default=0) <= max(own, default=0):
        found[OPEN.key] = OPEN
    return found


def is_same(current: Iterable[Json], rules: Iterable[Json]) -> bool:
    """Return whether rules that Azure tells say what these say, and no others are there."""
    there = {each["name"]: _said(each) for each in current}
    return there == {each["name"]: _said(each) for each in rules}


def kept_by_others(current: Iterable[Json]) -> list[str]:
    """Return the names of others' rules that let nobody in: they deny, or are about the way out."""
    return [
        each["name"]
        for each in current
        if not _is_ours(each)
        and not (_is(each, "access", "allow") and _is(each, "direction", "inbound"))
    ]


def _opening(bundle: Bundle, priority: int, names: Names) -> Json:
    sources: Json
    if bundle.kind == "groups":
        groups = [{"id": names.application_group(name)} for name in bundle.sources]
        sources = {"sourceApplicationSecurityGroups": groups}
    elif len(bundle.sources) == 1:
        sources = {"sourceAddressPrefix": bundle.sources[0]}
    else:
        sources = {"sourceAddressPrefixes": list(bundle.sources)}
    ports = f"{bundle.first}" if bundle.first == bundle.last else f"{bundle.first}-{bundle.last}"
    return _rule(
        bundle.name,
        {
            "description": rule_mark(bundle.purpose),
            "protocol": "*" if bundle.protocol == "all" else bundle.protocol.capitalize(),
            "destinationPortRange": "*" if ports == "0" else ports,
            "access": "Allow",
            "priority": priority,
            **sources,
        },
    )


def _closing(priority: int, taken: Collection[str]) -> Json:
    """Return the rule without which a host is open to its whole virtual network.

    It shuts the probes of Azure's load balancers out too: no server of a fleet is behind one.
    """
    number = 1
    name = _CLOSED_NAME
    while name in taken:
        number += 1
        name = f"{_CLOSED_NAME}-{number}"
    return _rule(
        name,
        {
            "description": rule_mark(_CLOSED),
            "protocol": "*",
            "sourceAddressPrefix": "*",
            "destinationPortRange": "*",
            "access": "Deny",
            "priority": priority,
        },
    )


def _rule(name: str, properties: Json) -> Json:
    everywhere = {
        "sourcePortRange": "*",
        "destinationAddressPrefix": "*",
        "direction": "Inbound",
    }
    return {"name": name, "properties": properties | everywhere}


def _said(rule: Json) -> Json:
    """Return what a rule says, without what Azure adds: empty members, and how far it has come."""
    own = ((key, value) for key, value in rule["properties"].items() if value)
    return {key: value for key, value in own if key != "provisioningState"}


def _is_ours(rule: Json) -> bool:
    return purpose_of(rule["properties"].get("description") or "") is not None


def _is_closing(rule: Json) -> bool:
    return (
        purpose_of(rule["properties"].get("description") or "") == _CLOSED
        and _is(rule, "access", "deny")
        and _is(rule, "direction", "inbound")
        and _is(rule, "protocol", "*")
        and _ports(rule) == [(0, 0)]
        and _networks(rule) == ["*"]
        and _is_whole(rule)
    )


def _is_whole(rule: Json) -> bool:
    """Return whether it is about connections from all ports to all of a host's addresses."""
    properties = rule["properties"]
    return (
        _all(properties, "sourcePortRange", "sourcePortRanges") == ["*"]
        and _all(properties, "destinationAddressPrefix", "destinationAddressPrefixes") == ["*"]
        and not properties.get("destinationApplicationSecurityGroups")
    )


def _is(rule: Json, key: str, value: str) -> bool:
    return str(rule["properties"].get(key, "")).lower() == value


def _priority(rule: Json) -> int:
    return int(rule["properties"]["priority"])


def _openings(rule: Json, names: Names) -> list[Rule]:
    """Return what one of Azure's rules lets in; nothing if it denies, or is about the way out."""
    if not (_is(rule, "access", "allow") and _is(rule, "direction", "inbound")):
        return []
    properties = rule["properties"]
    protocol = str(properties["protocol"]).lower()
    description = properties.get("description") or ""
    purpose = purpose_of(description)
    groups = properties.get("sourceApplicationSecurityGroups") or ()
    sources = [
        *(Source(kind="group", name=names.group_of(group["id"])) for group in groups),
        *(Source(kind="network", name=name) for name in _networks(rule)),
    ]
    return [
        Rule(
            protocol="all" if protocol == "*" else protocol,
            first=first,
            last=last,
            source=source,
            purpose=description if purpose is None else purpose,
            foreign=purpose is None,
        )
        for first, last in _ports(rule)
        for source in sources
    ]


def _networks(rule: Json) -> list[str]:
    found = _all(rule["properties"], "sourceAddressPrefix", "sourceAddressPrefixes")
    return [_canonical(name) for name in found]


def _canonical(name: str) -> str:
    try:
        return str(ipaddress.ip_network(name, strict=False))
    except ValueError:
        return name


def _ports(rule: Json) -> list[tuple[int, int]]:
    """Return the ports it is about; (0, 0) for all of them."""
    found = []
    for text in _all(rule["properties"], "destinationPortRange", "destinationPortRanges"):
        first, _, last = text.partition("-")
        if text == "*":
            found.append((0, 0))
        else:
            found.append((int(first), min(int(last or first), _HIGHEST_PORT)))
    return found


def _all(properties: Json, one: str, many: str) -> list[str]:
    """Return what Azure keeps under two names: one value, or a list of them."""
    single = properties.get(one)
    return [*([single] if single else []), *(properties.get(many) or ())]
