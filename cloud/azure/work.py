"""One run's changes in Azure, in steps in which nothing that should be let in is shut out."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from cloud.azure.client import APPLICATION_GROUPS, INTERFACES, NETWORK_GROUPS, Client
from cloud.azure.convert import OPEN, Json, is_same, kept_by_others, listed, rewritten
from cloud.azure.state import (
    Survey,
    guarded,
    joined,
    left,
    network_group_of,
    rules_of,
    tags,
    whose_of,
    with_groups,
)
from cloud.changes import Change, Kind
from cloud.errors import CloudError
from cloud.names import ALL, FLEET_MARK, HOST_MARK

Done = Callable[[Change], None]

_ADDS: Final = frozenset({Kind.ADD_GROUP, Kind.ADD_RULE})
_NAMES: Final = frozenset({Kind.ADD_GROUP, Kind.ADD_RULE, Kind.JOIN})


class Work:
    """The changes of one run."""

    def __init__(
        self,
        client: Client,
        location: str,
        owner: str,
        found: Survey,
        changes: Sequence[Change],
        done: Done,
    ) -> None:
        """Look at what is to be done; does nothing.

        Args:
            client: who makes the calls.
            location: where new groups are made.
            owner: the mark of the fleet's authority.
            found: what is there at this moment.
            changes: what to do.
            done: is called with each change that is made.
        """
        self._client = client
        self._location = location
        self._owner = owner
        self._found = found
        self._changes = changes
        self._done = done
        self._interfaces = dict(found.interfaces)
        self._needed = sorted(
            {each.group for each in changes if each.kind in _NAMES}
            | {
                each.rule.source.name
                for each in changes
                if each.kind is Kind.ADD_RULE and each.rule and each.rule.source.kind == "group"
            }
        )
        self._names = with_groups(found.names, self._needed)
        self._gone = sorted(each.group for each in changes if each.kind is Kind.REMOVE_GROUP)

    def run(self) -> None:
        """Make every change.

        Raises:
            CloudError: something of others' is in the way, and nothing is made; or Azure refused a
                change, and those before it are made.
        """
        self._check()
        joins = [each for each in self._changes if each.kind is Kind.JOIN]
        at_once, later = self._turns(bool(joins))
        self._make_application_groups()
        self._write_rules(at_once)
        self._join(joins)
        self._leave()
        self._write_rules(later)
        self._remove_groups()

    def _check(self) -> None:
        own = {
            held.network_group["id"].lower()
            for held in self._found.groups.values()
            if held.network_group and held.owner == self._owner
        }
        for host in sorted({each.member for each in self._changes if each.kind is Kind.JOIN}):
            interface = self._interface(host)
            attached = network_group_of(interface)
            if attached and attached not in own:
                name = attached.rpartition("/")[2]
                raise CloudError(
                    f"the network interface {interface['name']} of {host} has the network "
                    f"security group {name}, which is not the fleet's, and Azure allows but one",
                    hint="take it off the interface; what it lets in belongs into fleet.access",
                )
        for group in self._gone:
            held = self._found.groups.get(group)
            kept = kept_by_others(held.rules) if held else []
            if kept:
                raise CloudError(
                    f"the network security group {self._names.of(group)} has rules of others that "
                    f"deny connections or are about those that go out: {', '.join(kept)}",
                    hint="remove them by hand, then run the same command again",
                )

    def _turns(self, joins: bool) -> tuple[list[Change], list[Change]]:
        """Return the changes of rules that are made before hosts join, and those made after it.

        What is let in by an address now and by a group from now on is shut out in between if the
        address goes before the group has its members.
        """
        rules = [
            each
            for each in self._changes
            if (each.kind in _ADDS or each.kind is Kind.REMOVE_RULE)
            and each.group != ALL
            and each.group not in self._gone
        ]
        if not joins:
            return rules, []
        later = [each for each in rules if each.kind is Kind.REMOVE_RULE and each.rule != OPEN]
        return [each for each in rules if each not in later], later

    def _make_application_groups(self) -> None:
        for group in self._needed:
            held = self._found.groups.get(group)
            if held is None or held.application_group is None:
                name = self._names.of(group)
                self._client.update(APPLICATION_GROUPS, name, partial(self._own, group))
        self._say(self._of(Kind.ADD_GROUP, ALL))

    def _write_rules(self, changes: Sequence[Change]) -> None:
        for group in sorted({each.group for each in changes}):
            mine = [each for each in changes if each.group == group]
            change = partial(self._with_rules, group, mine)
            self._client.update(NETWORK_GROUPS, self._names.of(group), change)
            self._say(mine)

    def _join(self, changes: Sequence[Change]) -> None:
        hosts = sorted({each.member for each in changes})
        # All hosts stand in rules before the first one is behind its own.
        for host in hosts:
            own = [each for each in changes if each.member == host]
            groups = [self._names.application_group(each.group) for each in own]
            self._change(host, partial(joined, application_groups=groups))
            self._say(each for each in own if each.group != host)
        for host in hosts:
            own = [each for each in changes if each.member == host == each.group]
            if own:
                group = self._names.network_group(host)
                self._change(host, partial(guarded, network_group=group))
                self._say(own)

    def _leave(self) -> None:
        leaves = [each for each in self._changes if each.kind is Kind.LEAVE]
        for host in sorted(self._interfaces):
            own = [each for each in leaves if each.member == host]
            # Half of a membership, which somebody left behind by hand, would keep a group.
            groups = sorted({each.group for each in own} | set(self._gone))
            change = partial(
                left,
                application_groups=[self._names.application_group(each) for each in groups],
                network_groups=[self._names.network_group(each) for each in groups],
            )
            self._change(host, change)
            self._say(own)

    def _remove_groups(self) -> None:
        """Remove groups: those with rules first, as their rules name the others."""
        for group in self._gone:
            if group != ALL:
                self._client.delete(NETWORK_GROUPS, self._names.of(group))
            self._say(self._of(Kind.REMOVE_RULE, group))
        for group in self._gone:
            self._client.delete(APPLICATION_GROUPS, self._names.of(group))
            self._say(self._of(Kind.REMOVE_GROUP, group))

    def _own(self, group: str, there: Json | None) -> Json:
        """Return a thing of a group's: the one that is there, or a new one.

        Raises:
            CloudError: the one that is there is somebody else's.
        """
        if there is None:
            return {
                "location": self._location,
                "tags": tags(self._names.fleet, self._owner, group),
                "properties": {},
            }
        if whose_of(there, self._names) != (group, self._owner):
            raise CloudError(
                f"somebody else has a group {there['name']}: it carries no tag "
                f"{FLEET_MARK}={self._names.fleet} of this fleet's authority",
                hint="rename or remove it, or give the fleet another name",
            )
        return there

    def _with_rules(self, group: str, changes: Iterable[Change], there: Json | None) -> Json:
        start = self._own(group, there)
        current = rules_of(start)
        rules = {
            key: rule
            for key, rule in listed(current, self._names).items()
            if not rule.foreign and rule != OPEN
        }
        purged = set()
        for each in changes:
            if each.rule is None:
                continue
            if each.kind is Kind.ADD_RULE:
                rules[each.rule.key] = each.rule
            elif each.rule.foreign:
                purged.add(each.rule.key)
            else:
                rules.pop(each.rule.key, None)
        wanted = rewritten(current, rules, purged, self._names)
        if there is not None and is_same(current, wanted):
            return there
        properties: dict[str, Any] = start["properties"] | {"securityRules": wanted}
        return start | {"properties": properties}

    def _change(self, host: str, change: Callable[[Json], Json]) -> None:
        interface = self._interface(host)
        name = interface["name"]

        def changed(there: Json | None) -> Json:
            if there is None:
                raise CloudError(
                    f"the network interface {name} of {host} is gone",
                    hint="run the same command again",
                )
            return change(there)

        self._interfaces[host] = self._client.update(INTERFACES, name, changed, interface)

    def _interface(self, host: str) -> Json:
        if host not in self._interfaces:
            raise CloudError(
                f"no network interface has the tag {HOST_MARK}={host} any more",
                hint="somebody else may be changing it; run the same command again",
            )
        return self._interfaces[host]

    def _of(self, kind: Kind, group: str) -> list[Change]:
        return [each for each in self._changes if each.kind is kind and each.group == group]

    def _say(self, changes: Iterable[Change]) -> None:
        for each in changes:
            self._done(each)
