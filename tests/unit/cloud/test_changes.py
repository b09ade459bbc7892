from hypothesis import given

from cloud.changes import Kind, after, conflicts, diff, foreign, named, owned, text
from cloud.names import label_of
from cloud.rules import Group, Rule, Source, State, wanted
from tests.support.clouds import OWNER, cloud_fleet, cloud_hosts, states


@given(states())
def test_nothing_differs_from_itself(state: State) -> None:
    assert diff(state, state) == ()


@given(states(), states())
def test_the_changes_lead_to_what_is_wanted(have: State, want: State) -> None:
    made = after(have, diff(have, want, purge=True))
    assert made.groups.keys() == want.groups.keys()
    assert all(
        made.groups[name].rules.keys() == want.groups[name].rules.keys() for name in want.groups
    )
    for host, groups in made.members.items():
        assert groups == want.members.get(host, frozenset())
    assert diff(made, want, purge=True) == ()


@given(states(), states())
def test_rules_of_others_stay_unless_they_are_purged(have: State, want: State) -> None:
    made = after(have, diff(have, want))
    wished = {(name, key) for name, group in want.groups.items() for key in group.rules}
    for name, rule in foreign(have):
        assert rule.key in made.groups[name].rules
    for name, group in made.groups.items():
        for key, rule in group.rules.items():
            assert rule.foreign or (name, key) in wished
    assert diff(made, want) == ()


@given(states(), states())
def test_what_is_new_is_there_before_what_is_old_goes(have: State, want: State) -> None:
    kinds = [change.kind for change in diff(have, want, purge=True)]
    removals = {Kind.LEAVE, Kind.REMOVE_RULE, Kind.REMOVE_GROUP}
    first = next((number for number, kind in enumerate(kinds) if kind in removals), len(kinds))
    assert not removals & set(kinds[:first])
    assert set(kinds[first:]) <= removals
    # A rule that names a group is gone before the group is.
    groups = [number for number, kind in enumerate(kinds) if kind is Kind.REMOVE_GROUP]
    assert not groups or Kind.REMOVE_RULE not in kinds[groups[0] :]


@given(states(owner=""), states())
def test_what_is_not_the_fleets_is_never_changed(others: State, own: State) -> None:
    both = State(groups=others.groups | own.groups, members=own.members)
    assert owned(both, OWNER).groups == own.groups
    assert len(conflicts(both, "lab", OWNER)) == len(others.groups.keys() - own.groups.keys())


def test_groups_of_another_fleet_of_the_same_name_are_told_from_its_own() -> None:
    state = State(groups={"gpu-0": Group(name="gpu-0", owner="ffff")})
    (problem,) = conflicts(state, "lab", OWNER)
    assert "stagefleet-lab-gpu-0 belongs to another fleet of the name lab" in problem


def test_a_changed_port_is_two_lines_and_one_more_network_is_one() -> None:
    before = wanted(cloud_fleet(), "aws")
    hosts = cloud_hosts()
    hosts["gpu-1"]["fleet_host"]["stages"] = [{"stage": 1, "rpc_port": 9003}]
    from runtime.spec.inventory import fleet_of

    lines = [str(change) for change in diff(before, wanted(fleet_of(hosts), "aws"))]
    assert lines == [
        "+ gpu-1: tcp 9003 from host gpu-0  # rpc of stage 1",
        "- gpu-1: tcp 8003 from host gpu-0  # rpc of stage 1",
    ]
    more = cloud_fleet(
        access=[{"service": "dht", "hosts": ["gpu-1"], "networks": ["192.0.2.7/32"]}]
    )
    lines = [str(change) for change in diff(before, wanted(more, "aws"))]
    assert lines == ["+ gpu-1: tcp 8002 from 192.0.2.7/32  # dht of stage 1"]


def test_a_state_is_text_that_can_be_compared() -> None:
    assert text(wanted(cloud_fleet(inside=1), "aws")) == [
        "gpu-0: tcp 22 from 192.0.2.0/24  # ssh",
        "gpu-0: tcp 8008 from 203.0.113.2/32  # dht of stage 0",
        "gpu-0: tcp 8008 from 203.0.113.3/32  # dht of stage 0",
        "gpu-0: tcp 8008 from 203.0.113.4/32  # dht of stage 0",
        "gpu-0: tcp 8009 from 203.0.113.4/32  # rpc of stage 0",
    ]


def test_a_group_goes_without_what_others_aim_at_it_from_outside() -> None:
    source = Source(kind="network", name="192.0.2.0/24")
    own = Rule(protocol="tcp", first=22, last=22, source=source)
    theirs = own.model_copy(update={"foreign": True, "resource": "allow-web"})
    # They say the same, and are two rules.
    rules = {rule.key: rule for rule in (own, theirs)}
    assert len(rules) == 2
    have = State(groups={"gpu-0": Group(name="gpu-0", owner=OWNER, rules=rules)})
    assert [str(change) for change in diff(have, State())] == [
        "- gpu-0: tcp 22 from 192.0.2.0/24",
        "- group gpu-0",
    ]
    assert [str(change) for change in diff(have, State(), purge=True)][1] == (
        "- gpu-0: tcp 22 from 192.0.2.0/24 (in allow-web)"
    )
    assert after(have, diff(have, State())).groups == {}
    inside = theirs.model_copy(update={"resource": ""})
    held = State(groups={"gpu-0": Group(name="gpu-0", owner=OWNER, rules={inside.key: inside})})
    assert diff(held, State()) == ()


def test_members_that_a_cloud_knows_by_labels_get_the_names_of_their_hosts() -> None:
    members = {label_of("GPU.One"): frozenset({"*"}), "gpu-0": frozenset(), "gone": frozenset()}
    found = named(State(members=members, notices=("a",)), ("GPU.One", "gpu-0", "gpu-1"))
    assert found.members == {"GPU.One": {"*"}, "gpu-0": set(), "gone": set()}
    assert owned(found, OWNER).notices == ("a",)
