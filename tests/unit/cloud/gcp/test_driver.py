import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.changes import Kind, after, diff
from cloud.errors import CloudError
from cloud.gcp.driver import Gcp
from cloud.gcp.errors import RefusedError
from cloud.gcp.firewalls import (
    Firewall,
    Holder,
    Mark,
    Traffic,
    description_of,
    excesses,
    firewall_name,
    fits,
    fold,
    mark_of,
)
from cloud.gcp.messages import firewall_of, message_of
from cloud.gcp.state import Instance, state
from cloud.gcp.writes import Action, Write, additions, removals, waits
from cloud.names import ALL
from cloud.rules import Group, Rule, Source, State
from runtime.spec.clouds import GcpCloud
from tests.support.clouds import OWNER, rules, states

HOLDER = Holder(fleet="lab", owner=OWNER, network="gpus")
TO_ANYBODY = Firewall(
    name="default-allow-ssh",
    source_ranges=frozenset({"0.0.0.0/0"}),
    allowed=frozenset({Traffic(protocol="tcp", ports=("22",))}),
)
_words = st.text("abcXYZ019 ,=[]._-ü", max_size=80)
_groups = st.one_of(st.just(ALL), _words.filter(bool))


def network_rule(network: str, port: int = 22, **more: Any) -> Rule:
    source = Source(kind="network", name=network)
    return Rule(protocol="tcp", first=port, last=port, source=source, **more)


def group_of(*found: Rule, name: str = "gpu-1") -> Group:
    return Group(name=name, owner=OWNER, rules={rule.key: rule for rule in found})


def only_own(found: State) -> State:
    """Return a state without rules of others, which are in firewalls that nobody folds."""
    groups = {
        name: group_of(*(rule for rule in group.rules.values() if not rule.foreign), name=name)
        for name, group in found.groups.items()
    }
    return State(groups=groups)


def firewalls_of(found: State) -> dict[str, Firewall]:
    return {
        name: firewall
        for group in found.groups.values()
        for name, firewall in fold(HOLDER, group).items()
    }


def keys(found: State) -> dict[str, set[object]]:
    return {name: set(group.rules) for name, group in found.groups.items()}


@given(_groups, _words, st.from_regex(r"[a-z][a-z0-9-]{0,39}", fullmatch=True))
def test_a_mark_is_read_as_it_was_written(group: str, purpose: str, fleet: str) -> None:
    mark = Mark(fleet=fleet, owner=OWNER, group=group, purpose=" ".join(purpose.split()))
    text = description_of(mark.model_copy(update={"purpose": f" {purpose}\n"}))
    assert mark_of(text) == mark
    assert "\n" not in text


def test_what_others_write_is_no_mark() -> None:
    assert mark_of("") is None
    assert mark_of("stagefleet: ssh") is None
    assert mark_of("[fleet=lab owner=x group=gpu-1]") is None
    text = description_of(Mark(fleet="lab", owner=OWNER, group="gpu-1", purpose="x" * 9000))
    assert len(text) < 2048
    assert HOLDER.holds(Firewall(name="any", description=text))
    assert not Holder("lab-2", OWNER, "gpus").holds(Firewall(name="any", description=text))
    assert not Holder("lab", "other", "gpus").holds(Firewall(name="any", description=text))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(("lab", "lab-2", "a" * 40)), _groups, rules()), max_size=6)
)
def test_firewalls_of_different_groups_and_ports_have_different_legal_names(
    found: list[tuple[str, str, Rule]],
) -> None:
    names: dict[str, object] = {}
    for fleet, group, rule in found:
        holder = Holder(fleet, OWNER, "gpus")
        family = ":" in rule.source.name
        for name, what in (
            (firewall_name(holder, group, rule), (rule.protocol, rule.first, family)),
            (next(iter(fold(holder, group_of(name=group)))), "empty"),
        ):
            assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)
            assert names.setdefault(name, (holder.tag(group), what)) == (holder.tag(group), what)


def test_rules_that_differ_in_their_sources_are_one_firewall_for_each_family() -> None:
    group = group_of(
        network_rule("192.0.2.0/24", purpose="ssh"),
        network_rule("198.51.100.4/32", purpose="ssh"),
        network_rule("2001:db8::/64", purpose="ssh"),
        Rule(protocol="tcp", first=22, last=22, source=Source(kind="group", name="gpu-0")),
        network_rule("203.0.113.9/32", foreign=True, resource="allow-web"),
    )
    found = fold(HOLDER, group)
    assert sorted(found) == ["stagefleet-lab-gpu-1-tcp-22-v4", "stagefleet-lab-gpu-1-tcp-22-v6"]
    four, six = (found[name] for name in sorted(found))
    assert four.source_ranges == {"192.0.2.0/24", "198.51.100.4/32"}
    assert four.source_tags == {"stagefleet-lab-gpu-0"}
    assert four.targets == {"stagefleet-lab-gpu-1"}
    assert six.source_ranges == {"2001:db8::/64"}
    assert not six.source_tags
    assert mark_of(four.description) == Mark(fleet="lab", owner=OWNER, group="gpu-1", purpose="ssh")


@settings(deadline=None, max_examples=60)
@given(states())
def test_what_is_folded_is_read_back(wanted: State) -> None:
    wanted = only_own(wanted)
    found = state(HOLDER, list(firewalls_of(wanted).values()), [])
    assert keys(found) == keys(wanted)
    assert {group.owner for group in found.groups.values()} <= {OWNER}
    assert not any(
        rule.resource or rule.foreign
        for group in found.groups.values()
        for rule in group.rules.values()
    )


@settings(deadline=None, max_examples=60)
@given(states())
def test_no_firewall_is_ever_without_a_source(wanted: State) -> None:
    for firewall in firewalls_of(wanted).values():
        message = message_of(firewall, "global/networks/gpus")
        assert message.source_tags or message.source_ranges
        assert firewall_of(message) == firewall


def test_a_firewall_without_a_source_is_not_sent() -> None:
    with pytest.raises(RefusedError, match="open to everybody"):
        message_of(TO_ANYBODY.model_copy(update={"source_ranges": frozenset()}), "gpus")


def written(present: dict[str, Firewall], write: Write) -> None:
    """Do a write as the cloud would, which refuses what does not fit what is there."""
    if write.action is Action.DELETE:
        del present[write.name]
    else:
        assert (write.name in present) == (write.action is Action.UPDATE)
        present[write.name] = write.firewall


@settings(deadline=None, max_examples=60)
@given(states(), states())
def test_writes_lead_to_what_is_wanted_and_never_close_what_stays_open(
    have: State, want: State
) -> None:
    have, want = only_own(have), only_own(want)
    changes = diff(have, want)
    present = firewalls_of(have)
    adding = [each for each in changes if each.kind in {Kind.ADD_GROUP, Kind.ADD_RULE}]
    ends = (after(have, adding), after(have, changes))
    kept = {
        (name, key)
        for name, group in have.groups.items()
        for key in group.rules.keys() & keys(want).get(name, set())
    }
    first = list(additions(HOLDER, present, ends, {change.group for change in adding}))
    for write in first:
        written(present, write)
    every = {(name, key) for name, group in want.groups.items() for key in group.rules}
    assert every <= open_in(present)
    for write in removals(HOLDER, present, ends[1], changes):
        written(present, write)
        assert kept <= open_in(present)
    assert keys(state(HOLDER, list(present.values()), [])) == keys(want)
    assert present.keys() == firewalls_of(want).keys()


def open_in(present: dict[str, Firewall]) -> set[tuple[str, object]]:
    found = state(HOLDER, list(present.values()), [])
    return {(name, key) for name, group in found.groups.items() for key in group.rules}


def test_a_change_waits_for_the_firewalls_that_it_needs() -> None:
    rule = network_rule("192.0.2.0/24")
    have, want = State(), State(groups={"gpu-1": group_of(rule)})
    added, opened = diff(have, want)
    (write,) = additions(HOLDER, {}, (want, want), {"gpu-1"})
    assert waits(HOLDER, added, [write])
    assert waits(HOLDER, opened, [write])
    assert not waits(HOLDER, opened, [])


def test_a_firewall_that_changes_by_too_many_sources_changes_at_once() -> None:
    old = [Rule(protocol="tcp", first=22, last=22, source=Source(kind="group", name=f"old-{n}"))
           for n in range(20)]  # fmt: skip
    new = [Rule(protocol="tcp", first=22, last=22, source=Source(kind="group", name=f"new-{n}"))
           for n in range(20)]  # fmt: skip
    have, want = (State(groups={"gpu-1": group_of(*found)}) for found in (old, new))
    changes = diff(have, want)
    between = after(have, [each for each in changes if each.kind is Kind.ADD_RULE])
    (write,) = additions(HOLDER, firewalls_of(have), (between, want), {"gpu-1"})
    assert fits(write.firewall)
    assert write.firewall == next(iter(firewalls_of(want).values()))


def test_a_name_that_somebody_else_has_is_not_written() -> None:
    want = State(groups={"gpu-1": group_of(network_rule("192.0.2.0/24"))})
    present = {
        name: each.model_copy(update={"description": "mine"})
        for name, each in firewalls_of(want).items()
    }
    with pytest.raises(CloudError, match="tcp-22-v4 already, and it was not made for this fleet"):
        list(additions(HOLDER, present, (want, want), {"gpu-1"}))


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"disabled": True}, "altered by hand: disabled"),
        ({"priority": 5}, "altered by hand: priority"),
        ({"targets": frozenset({"stagefleet-lab-gpu-1", "web"})}, "altered by hand: targets"),
        ({"direction": "EGRESS"}, "altered by hand: direction"),
        ({"allowed": frozenset({Traffic(protocol="tcp")})}, "altered by hand: name or allowed"),
        ({"allowed": frozenset()}, "altered by hand: name or allowed"),
    ],
)
def test_a_firewall_that_was_altered_is_drift_and_is_put_right(
    change: dict[str, Any], shown: str
) -> None:
    want = State(groups={"gpu-1": group_of(network_rule("192.0.2.0/24", purpose="ssh"))})
    ((name, firewall),) = firewalls_of(want).items()
    present = {name: firewall.model_copy(update=change)}
    have = state(HOLDER, list(present.values()), [])
    changes = diff(have, want)
    assert [each.kind for each in changes] == [Kind.ADD_RULE, Kind.REMOVE_RULE]
    assert str(changes[1]).endswith(f"(in {name})  # ssh; {shown}")
    final = after(have, changes)
    for write in additions(HOLDER, present, (after(have, changes[:1]), final), {"gpu-1"}):
        written(present, write)
    assert list(removals(HOLDER, present, final, changes)) == []
    assert present == {name: firewall}


def test_logs_that_an_operator_has_switched_on_stay() -> None:
    before = State(groups={"gpu-1": group_of(network_rule("192.0.2.0/24"))})
    more = group_of(network_rule("192.0.2.0/24"), network_rule("198.51.100.0/24"))
    want = State(groups={"gpu-1": more})
    present = {
        name: each.model_copy(update={"logs": "INCLUDE_ALL_METADATA"})
        for name, each in firewalls_of(before).items()
    }
    assert diff(state(HOLDER, list(present.values()), []), before) == ()
    (write,) = additions(HOLDER, present, (want, want), {"gpu-1"})
    assert write.firewall.logs == "INCLUDE_ALL_METADATA"
    assert message_of(write.firewall, "gpus").log_config.enable


def test_firewalls_of_others_that_aim_at_a_group_are_its_foreign_rules() -> None:
    own = fold(HOLDER, group_of())
    other = Firewall(
        name="allow-web",
        description="the web",
        targets=frozenset({"stagefleet-lab-gpu-1", "web"}),
        source_ranges=frozenset({"192.0.2.0/24"}),
        source_tags=frozenset({"front", "stagefleet-lab-gpu-1"}),
        source_accounts=frozenset({"a@b.example"}),
        allowed=frozenset(
            {
                Traffic(protocol="tcp", ports=("80", "8000-8100")),
                Traffic(protocol="udp"),
                Traffic(protocol="icmp"),
            }
        ),
    )
    closing = other.model_copy(
        update={"name": "no", "allowed": frozenset(), "denied": other.allowed}
    )
    off = other.model_copy(update={"name": "off", "disabled": True})
    found = state(HOLDER, [*own.values(), other, closing, off, TO_ANYBODY], [])
    assert found.notices == (
        "the firewall default-allow-ssh is for every instance of the network, the fleet's too: "
        "tcp 22 from 0.0.0.0/0",
    )
    shown = found.groups["gpu-1"].rules.values()
    assert all(rule.foreign for rule in shown)
    assert {rule.resource for rule in shown} == {"allow-web"}
    assert {str(rule).removesuffix(" (in allow-web)") for rule in shown} >= {
        "icmp 0 from 192.0.2.0/24",
        "tcp 80 from 192.0.2.0/24",
        "tcp 8000-8100 from host front",
        "udp 0-65535 from host a@b.example",
        "tcp 80 from host gpu-1",
    }
    assert len(shown) == 4 * 4


def test_a_rule_of_others_is_no_rule_of_the_fleet_even_if_it_says_the_same() -> None:
    rule = network_rule("192.0.2.0/24")
    other = TO_ANYBODY.model_copy(
        update={"targets": frozenset({HOLDER.tag("gpu-1")}),
                "source_ranges": frozenset({"192.0.2.0/24"})}
    )  # fmt: skip
    have = state(HOLDER, [*fold(HOLDER, group_of()).values(), other], [])
    (change,) = diff(have, State(groups={"gpu-1": group_of(rule)}))
    assert change.kind is Kind.ADD_RULE
    # The group goes, and the other's firewall stays.
    assert [each.kind for each in diff(have, State())] == [Kind.REMOVE_GROUP]


def test_names_and_marks_of_others_are_told_apart() -> None:
    found = state(
        HOLDER,
        [
            TO_ANYBODY.model_copy(update={"name": "stagefleet-lab-gpu-7-tcp-22-v4"}),
            *fold(Holder("lab", "ffff", "gpus"), group_of(name="gpu-2")).values(),
            *fold(Holder("lab-2", OWNER, "gpus"), group_of(name="gpu-3")).values(),
            *fold(HOLDER, group_of(name="gpu-4")).values(),
        ],
        [],
    )
    owners = {name: group.owner for name, group in found.groups.items()}
    assert owners == {"gpu-7-tcp-22-v4": "", "gpu-2": "ffff", "gpu-4": OWNER}


def test_members_are_found_by_their_tags_whether_or_not_a_firewall_is_there() -> None:
    tags = frozenset({HOLDER.tag("gpu-1"), HOLDER.tag(ALL), "web", "stagefleet-lab-2-gpu-1"})
    found = state(HOLDER, [], [Instance("vm", "z", "gpu-1", tags)])
    assert found.members == {"gpu-1": {"gpu-1", ALL}}
    assert {name: group.owner for name, group in found.groups.items()} == {
        "gpu-1": OWNER,
        ALL: OWNER,
    }
    with pytest.raises(CloudError, match=r"vm \(y\) and vm-2 \(z\) both have the label"):
        state(
            HOLDER,
            [],
            [Instance("vm", "y", "a", frozenset()), Instance("vm-2", "z", "a", frozenset())],
        )


def test_limits_name_the_group_and_what_to_do() -> None:
    many = [
        Rule(protocol="tcp", first=22, last=22, source=Source(kind="group", name=f"gpu-{number}"))
        for number in range(31)
    ]
    (problem,) = excesses(HOLDER, group_of(*many))
    assert problem.startswith("gpu-1: stagefleet-lab-gpu-1-tcp-22-v4 would let in 31 groups")
    networks = [network_rule(f"10.{n // 256}.{n % 256}.0/24") for n in range(5001)]
    (problem,) = excesses(HOLDER, group_of(*networks))
    assert "5001 networks" in problem
    assert "name wider networks" in problem
    assert list(excesses(HOLDER, group_of(*many[:30], *networks[:5000]))) == []
    cloud = GcpCloud(provider="gcp", project="some-lab", endpoint="http://127.0.0.1:1")
    gcp = Gcp(cloud, "lab", OWNER)
    assert len(gcp.problems(State(groups={"gpu-1": group_of(*many)}))) == 1
