import ipaddress
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.azure.convert import (
    FIRST,
    LAST,
    OPEN,
    Json,
    allot,
    is_same,
    kept_by_others,
    listed,
    rewritten,
)
from cloud.azure.fold import Bundle, Names, fold, problems
from cloud.azure.state import with_groups
from cloud.errors import CloudError
from cloud.names import ALL, rule_mark
from cloud.rules import Group, Rule, RuleKey, Source, State
from tests.support.azure_checks import Refusal, check_rules
from tests.support.loopback import loopback_only

__all__ = ["loopback_only"]

GROUPS = (ALL, *(f"gpu-{number}" for number in range(25)))
NAMES = with_groups(Names("/subscriptions/s/resourceGroups/g", "lab"), GROUPS)
NETWORKS = (
    "0.0.0.0/0",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "192.0.2.7/32",
    "198.51.100.0/24",
    "::/0",
    "2001:db8::/32",
    "2001:db8::/64",
)

_sources = st.one_of(
    st.builds(Source, kind=st.just("group"), name=st.sampled_from(GROUPS)),
    st.builds(Source, kind=st.just("network"), name=st.sampled_from(NETWORKS)),
)


@st.composite
def own_rules(draw: st.DrawFn) -> dict[Any, Rule]:
    """Any rules of the fleet's for one host."""
    found = draw(
        st.lists(
            st.builds(
                Rule,
                protocol=st.sampled_from(("tcp", "udp")),
                first=st.just(0),
                last=st.just(0),
                source=_sources,
                purpose=st.sampled_from(("ssh", "dht of stage 1", "rpc of stage 1")),
            ),
            max_size=60,
        )
    )
    ports = draw(st.lists(st.sampled_from((22, 8002, 8003)), min_size=60, max_size=60))
    rules = [
        rule.model_copy(update={"first": port, "last": port})
        for rule, port in zip(found, ports, strict=False)
    ]
    return {rule.key: rule for rule in rules}


def azure_rule(name: str = "by-hand", priority: int = 300, **more: Any) -> Json:
    """Return a rule as somebody else would make it."""
    properties = {
        "protocol": "Tcp",
        "sourcePortRange": "*",
        "sourceAddressPrefix": "198.51.100.9",
        "destinationAddressPrefix": "*",
        "destinationPortRange": "443",
        "access": "Allow",
        "direction": "Inbound",
        "priority": priority,
    }
    return {"name": name, "properties": properties | more}


@st.composite
def others_rules(draw: st.DrawFn) -> list[Json]:
    """Any rules that others have put into a network security group, as Azure would let them."""
    priorities = draw(st.sets(st.sampled_from((100, 110, 300, 4095, 4096)), max_size=5))
    return [
        azure_rule(
            f"{draw(st.sampled_from(('stagefleet-tcp-22-v4-', 'mine-')))}{number}",
            priority,
            access=draw(st.sampled_from(("Allow", "Deny"))),
            direction=draw(st.sampled_from(("Inbound", "Outbound"))),
            destinationPortRange=draw(st.sampled_from(("22", "443", "9000-9010", "*"))),
            sourceAddressPrefix=draw(st.sampled_from(("192.0.2.0/24", "*", "Internet"))),
        )
        for number, priority in enumerate(sorted(priorities), 1)
    ]


def unfold(bundles: Iterable[Bundle]) -> dict[RuleKey, Rule]:
    rules = [
        Rule(
            protocol=bundle.protocol,
            first=bundle.first,
            last=bundle.last,
            source=Source(kind="group" if bundle.kind == "groups" else "network", name=name),
            purpose=bundle.purpose,
        )
        for bundle in bundles
        for name in bundle.sources
    ]
    return {rule.key: rule for rule in rules}


@given(own_rules())
def test_what_is_folded_unfolds_to_what_it_was(rules: dict[Any, Rule]) -> None:
    bundles = fold(rules.values())
    assert unfold(bundles) == rules
    assert len({bundle.name for bundle in bundles}) == len(bundles)


@given(own_rules(), st.sets(st.sampled_from(NETWORKS)))
def test_no_rule_of_azures_mixes_what_azure_keeps_apart(
    rules: dict[Any, Rule], nested: set[str]
) -> None:
    sources = [Source(kind="network", name=each) for each in nested]
    rules |= wanting(sources).groups["gpu-0"].rules
    for bundle in fold(rules.values()):
        if bundle.kind == "groups":
            assert len(bundle.sources) <= 10
            continue
        networks = [ipaddress.ip_network(name) for name in bundle.sources]
        assert len({network.version for network in networks}) == 1
        assert not any(
            one.overlaps(other)
            for number, one in enumerate(networks)
            for other in networks[number + 1 :]
        )


def test_many_sources_of_one_port_are_few_rules() -> None:
    networks = [Source(kind="network", name=f"10.{high}.{low}.0/24")
                for high in range(4) for low in range(250)]  # fmt: skip
    groups = [Source(kind="group", name=f"gpu-{number}") for number in range(25)]
    rules = [
        Rule(protocol="tcp", first=22, last=22, source=source, purpose="ssh")
        for source in (*networks, *groups)
    ]
    assert [bundle.name for bundle in fold(rules)] == [
        "stagefleet-tcp-22-groups-1",
        "stagefleet-tcp-22-groups-2",
        "stagefleet-tcp-22-groups-3",
        "stagefleet-tcp-22-v4-1",
    ]


@given(
    st.sets(st.integers(0, 1200).map(str), max_size=1000),
    st.dictionaries(st.integers(0, 1200).map(str), st.integers(1, 5000)),
    st.sets(st.integers(FIRST, LAST)),
)
def test_priorities_are_kept_unique_and_in_their_range(
    names: set[str], kept: dict[str, int], taken: set[int]
) -> None:
    ordered = sorted(names)
    found, last = allot(ordered, kept, taken)
    assert found.keys() == names
    everything = [*found.values(), last]
    assert len(set(everything)) == len(everything)
    assert all(FIRST <= number <= LAST and number not in taken for number in everything)
    assert max(found.values(), default=0) < last
    # Whoever has a good one to itself keeps it, whatever else comes and goes.
    alone = {name for name in names & kept.keys() if list(kept.values()).count(kept[name]) == 1}
    for name in alone:
        if FIRST <= kept[name] < last and kept[name] not in taken:
            assert found[name] == kept[name]
    assert allot(ordered, found, taken) == (found, last)


def test_new_priorities_leave_gaps_until_there_are_none() -> None:
    found, last = allot([f"r{number}" for number in range(500)], {}, {110})
    assert [found["r0"], found["r1"], found["r2"]] == [100, 120, 130]
    assert last == 4096
    assert sum(number % 10 != 0 for number in found.values()) == 500 - 399


def test_more_rules_than_priorities_are_refused() -> None:
    with pytest.raises(CloudError, match="2 rules more do not fit"):
        allot(["a", "b"], {}, set(range(FIRST, LAST - 1)))
    with pytest.raises(CloudError, match="taken all priorities"):
        allot([], {}, set(range(FIRST, LAST + 1)))


@given(own_rules(), own_rules(), others_rules())
def test_what_is_written_is_read_again_and_others_keep_theirs(
    before: dict[Any, Rule], rules: dict[Any, Rule], others: list[Json]
) -> None:
    first = rewritten(others, before, (), NAMES)
    second = rewritten(first, rules, (), NAMES)
    check_rules(second)
    assert all(each in second for each in others)
    found = listed(second, NAMES)
    assert {key: rule for key, rule in found.items() if not rule.foreign} == rules
    foreign = {rule.key for rule in listed(others, NAMES).values() if rule != OPEN}
    assert found.keys() - rules.keys() == foreign - rules.keys()
    # What has not changed keeps its place, and nothing is written twice.
    assert is_same(second, rewritten(second, rules, (), NAMES))
    places = {each["name"]: each for each in first}
    for each in second:
        if each["name"] in places:
            assert each["properties"]["priority"] == places[each["name"]]["properties"]["priority"]


@given(own_rules(), others_rules())
def test_what_is_purged_goes_and_what_denies_stays(
    rules: dict[Any, Rule], others: list[Json]
) -> None:
    there = rewritten(others, rules, (), NAMES)
    purged = [key for key, rule in listed(there, NAMES).items() if rule.foreign]
    left = rewritten(there, rules, purged, NAMES)
    assert listed(left, NAMES) == rules
    assert kept_by_others(left) == kept_by_others(others)


def test_the_rule_that_keeps_everything_else_out_is_missed() -> None:
    rule = Rule(protocol="tcp", first=22, last=22, source=Source(kind="group", name=ALL))
    whole = rewritten([], {rule.key: rule}, (), NAMES)
    (closing,) = [each for each in whole if each["properties"]["access"] == "Deny"]
    assert closing["properties"]["priority"] == 4096
    assert OPEN.key not in listed(whole, NAMES)
    for change in (
        {"access": "Allow"},
        {"protocol": "Tcp"},
        {"priority": 100},
        {"direction": "Outbound"},
        {"sourceAddressPrefix": "Internet"},
        {"destinationPortRange": "1-1000"},
        {"description": "mine"},
    ):
        altered = closing | {"properties": closing["properties"] | change}
        found = listed([*[each for each in whole if each != closing], altered], NAMES)
        assert OPEN.key in found, change
        again = rewritten([altered], {}, (), NAMES)
        assert OPEN.key not in listed(again, NAMES), change
    assert str(OPEN) == "all 0 from the virtual network"


@pytest.mark.parametrize(
    "change",
    [
        {"access": "Deny"},
        {"direction": "Outbound"},
        {"sourcePortRange": "5000"},
        {"destinationAddressPrefix": "10.0.0.4"},
    ],
)
def test_a_rule_of_ours_that_was_narrowed_by_hand_is_missed(change: Json) -> None:
    rule = Rule(protocol="tcp", first=22, last=22, source=Source(kind="group", name="gpu-1"))
    whole = rewritten([], {rule.key: rule}, (), NAMES)
    assert list(listed(whole, NAMES)) == [rule.key]
    narrow = [
        each | {"properties": each["properties"] | change}
        if each["properties"]["access"] == "Allow"
        else each
        for each in whole
    ]
    assert list(listed(narrow, NAMES)) == []


def test_rules_of_others_are_shown_as_far_as_that_goes() -> None:
    rules = [
        azure_rule("web", 300, description="for everybody", destinationPortRanges=["80", "90-99"]),
        azure_rule("tag", 301, sourceAddressPrefix="Internet", protocol="*"),
        azure_rule("deny", 302, access="Deny"),
        azure_rule("out", 303, direction="Outbound"),
        azure_rule(
            "groups",
            304,
            sourceAddressPrefix=None,
            sourceApplicationSecurityGroups=[
                {"id": NAMES.application_group("gpu-3").upper()},
                {"id": "/other/group"},
            ],
        ),
    ]
    found = [rule for rule in listed(rules, NAMES).values() if rule != OPEN]
    assert all(rule.foreign for rule in found)
    assert [str(rule) for rule in found] == [
        "tcp 443 from 198.51.100.9/32",
        "tcp 80 from 198.51.100.9/32",
        "tcp 90-99 from 198.51.100.9/32",
        "all 443 from Internet",
        "tcp 443 from host gpu-3",
        "tcp 443 from host /other/group",
    ]
    assert found[0].purpose == "for everybody"
    assert kept_by_others(rules) == ["deny", "out"]


def wanting(sources: list[Source], ports: int = 1, purpose: str = "dht") -> State:
    """Return one host that lets each of these in to each of some ports."""
    rules = [
        Rule(protocol="tcp", first=port, last=port, source=source, purpose=purpose)
        for port in range(1, ports + 1)
        for source in sources
    ]
    found = {rule.key: rule for rule in rules}
    return State(groups={"gpu-0": Group(name="gpu-0", rules=found)})


def test_limits_are_named_with_their_group() -> None:
    everybody = [Source(kind="group", name=ALL)]
    assert problems(wanting(everybody, ports=999)) == []
    (rules,) = problems(wanting(everybody, ports=1000))
    assert "gpu-0 would have 1001 rules, and Azure allows 1000" in rules
    hosts = [Source(kind="group", name=f"gpu-{number}") for number in range(101)]
    assert problems(wanting(hosts[:100], ports=9)) == []
    (groups,) = problems(wanting(hosts))
    assert "101 single hosts as sources, and Azure allows 100" in groups
    addresses = [Source(kind="network", name=f"10.0.0.{number}/32") for number in range(201)]
    assert problems(wanting(addresses[:200], ports=20)) == []
    (networks,) = problems(wanting(addresses, ports=20))
    assert "4020 networks as sources, and Azure allows 4000" in networks
    (words,) = problems(wanting(everybody, purpose="x" * 200))
    assert "a description of more than 140 characters" in words


def test_the_fake_refuses_what_azure_refuses() -> None:
    good = azure_rule()
    check_rules([good])
    for change in (
        {"priority": 99},
        {"priority": 4097},
        {"protocol": "Sctp"},
        {"destinationPortRange": "22-70000"},
        {"description": "x" * 141},
        {"sourceAddressPrefix": "10.0.0.1/8"},
        {"sourceAddressPrefix": None},
        {"sourceAddressPrefix": None, "sourceAddressPrefixes": ["10.0.0.0/8", "10.1.0.0/16"]},
        {"sourceAddressPrefix": None, "sourceAddressPrefixes": ["10.0.0.0/8", "2001:db8::/32"]},
        {"sourceApplicationSecurityGroups": [{"id": "x"}]},
    ):
        with pytest.raises(Refusal):
            check_rules([good | {"properties": good["properties"] | change}])
    with pytest.raises(Refusal, match="same Priority"):
        check_rules([good, good | {"name": "other"}])
    assert rule_mark("ssh") == "stagefleet: ssh"
