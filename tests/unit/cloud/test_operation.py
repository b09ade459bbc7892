import contextlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud import operation
from cloud.changes import Change, diff
from cloud.errors import CloudError
from cloud.names import ALL
from cloud.rules import Group, Rule, Source, State, wanted
from runtime.spec.errors import SpecError
from tests.support.clouds import OWNER, Memory, cloud_fleet, states, wish

FLEET = cloud_fleet()
PUBLIC = {"service": "dht", "networks": ["0.0.0.0/1", "128.0.0.0/1"], "public": True}


Done = Callable[[Change], None]


def applied(cloud: Memory, **more: bool) -> list[str]:
    """Return what a run has done, a line each."""
    done: list[str] = []
    operation.apply(wish(FLEET, "aws", **more), cloud, lambda change: done.append(str(change)))
    return done


def test_a_fleet_is_planned_made_found_complete_and_removed() -> None:
    cloud = Memory(State(members={"gpu-0": frozenset(), "gpu-1": frozenset()}))
    planned = operation.plan(wish(FLEET), cloud)
    assert cloud.calls == 0
    assert planned.notices == (
        "no instance has the tag stagefleet-host=gpu-2 of this fleet: nothing guards it",
    )
    assert applied(cloud) == [str(change) for change in planned.changes]
    assert applied(cloud) == []
    assert cloud.state.members["gpu-1"] == {"gpu-1", ALL}
    assert applied(cloud, present=False)
    assert cloud.state.groups == {}
    assert applied(cloud, present=False) == []


@given(states(), st.sets(st.integers(0, 40), max_size=5), st.booleans())
def test_a_rerun_completes_what_faults_have_interrupted(
    have: State, faults: set[int], purge: bool
) -> None:
    cloud = Memory(have, faults=faults)
    for _ in faults:
        with contextlib.suppress(CloudError):
            applied(cloud, purge=purge)
    applied(cloud, purge=purge)
    assert diff(cloud.state, wanted(FLEET, "aws"), purge) == ()


@given(states(), states(owner=""))
def test_destroy_leaves_foreign_things_alone(have: State, others: State) -> None:
    cloud = Memory(State(groups=have.groups | others.groups, members=have.members))
    strange = {
        (name, key)
        for name, group in cloud.state.groups.items()
        for key, rule in group.rules.items()
        if rule.foreign or group.owner != OWNER
    }
    applied(cloud, present=False)
    left = {(name, key) for name, group in cloud.state.groups.items() for key in group.rules}
    assert left == strange
    assert set(others.groups) <= cloud.state.groups.keys()


def test_foreign_rules_are_reported_and_removed_only_on_demand() -> None:
    rule = Rule(
        protocol="tcp",
        first=80,
        last=80,
        source=Source(kind="network", name="192.0.2.9/32"),
        foreign=True,
    )
    group = Group(name="gpu-0", owner=OWNER, rules={rule.key: rule})
    cloud = Memory(State(groups={"gpu-0": group}))
    applied(cloud)
    (notice, *_) = operation.plan(wish(FLEET), cloud).notices
    assert notice == "rule of others in gpu-0: tcp 80 from 192.0.2.9/32; --purge removes it"
    assert applied(cloud, purge=True) == ["- gpu-0: tcp 80 from 192.0.2.9/32"]


def test_a_group_that_bears_a_name_of_ours_and_no_mark_is_refused() -> None:
    cloud = Memory(State(groups={"gpu-0": Group(name="gpu-0")}))
    with pytest.raises(CloudError, match="stagefleet-lab-gpu-0 is there already"):
        operation.plan(wish(FLEET), cloud)
    assert applied(cloud, present=False) == []


def test_what_is_open_to_the_world_must_be_allowed_by_the_run_too() -> None:
    fleet = cloud_fleet(access=[PUBLIC])
    with pytest.raises(SpecError, match="dht of stage 0 on gpu-0 is open to the world"):
        operation.plan(wish(fleet), Memory())
    assert operation.plan(wish(fleet, allow_public=True), Memory()).changes


def test_a_refused_change_is_named_with_what_is_done_already() -> None:
    cloud = Memory(faults={2})
    with pytest.raises(
        CloudError, match=r"RequestLimitExceeded\n2 of \d+ changes are made"
    ) as found:
        applied(cloud)
    assert "it continues" in found.value.hint


def test_limits_are_checked_before_the_cloud_is_asked() -> None:
    class Small(Memory):
        def problems(self, want: State) -> list[str]:
            assert want.groups
            return ["too many rules"]

        def read(self) -> State:
            raise AssertionError("the cloud was asked")

    with pytest.raises(SpecError, match="too many rules"):
        operation.plan(wish(FLEET), Small())


def test_a_cloud_that_takes_a_change_and_does_not_make_it_is_named() -> None:
    class Forgetful(Memory):
        def apply(self, have: State, changes: Sequence[Change], done: Done) -> None:
            assert changes
            super().apply(have, (), done)

    with pytest.raises(CloudError, match="still differs from what is wanted"):
        applied(Forgetful())


def test_what_surrounds_the_groups_is_said_while_there_are_any() -> None:
    cloud = Memory(State(notices=("port 22 is open to the world",)))
    assert "port 22 is open to the world" in operation.plan(wish(FLEET), cloud).notices
    assert operation.plan(wish(FLEET, present=False), cloud).notices == ()
