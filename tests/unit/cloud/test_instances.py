import pytest
from hypothesis import given

from cloud import instance_operation as operation
from cloud.errors import CloudError
from cloud.instance_operation import Patience
from cloud.instances import Act, Asked, Change, Life, Seen, Verb, plan, reached, text, text_after
from runtime.spec.errors import SpecError
from tests.support.clouds import OWNER
from tests.support.instances import (
    OTHER_OWNER,
    WANTED,
    Machines,
    after,
    rented_fleet,
    requests,
    sights,
)

ASKED = {"type": "g5.xlarge", "image": "ami-12345678", "disk": 100, "key": "ops"}
FLEET = rented_fleet("aws", ASKED | {"subnet": "subnet-12345678"})
AT_ONCE = Patience(sleep=lambda _: None)


def seen(host: str = "gpu-0", life: Life = Life.RUNNING, **more: object) -> Seen:
    return Seen.model_validate({"id": f"i-{host}", "host": host, "life": life, **more})


def asked(verb: Verb, *hosts: str, owner: str = OWNER, only: tuple[str, ...] = ()) -> Asked:
    want = dict.fromkeys(hosts, WANTED)
    return Asked(verb=verb, want=want, owner=owner, only=frozenset(only))


@given(requests(), sights())
def test_nothing_is_left_to_do_once_a_plan_is_done(wish: Asked, found: list[Seen]) -> None:
    try:
        changes = plan(wish, found).changes
    except CloudError:
        # A host was named whose instance is somebody else's: nothing is done.
        return
    made = after(found, changes, OWNER)
    assert plan(wish, made).changes == ()
    assert text_after(found, changes) == text(made)
    assert all(reached(change, made) for change in changes)


@given(requests(), sights())
def test_instances_of_others_are_never_touched(wish: Asked, found: list[Seen]) -> None:
    before = {each.id: each for each in found if each.owner != OWNER}
    try:
        changes = plan(wish, found).changes
    except CloudError:
        # The host that was named is one of them.
        assert {each.host for each in before.values() if each.lives} & wish.only
        return
    assert not {change.seen.id for change in changes if change.seen} & before.keys()
    # And where one of them is the host, there is no second.
    taken = {each.host for each in before.values() if each.lives}
    assert not taken & {change.host for change in changes}


@given(requests(owner=""), sights())
def test_without_an_authority_nothing_that_is_there_is_ours(wish: Asked, found: list[Seen]) -> None:
    try:
        changes = plan(wish, found).changes
    except CloudError:
        return
    assert {change.act for change in changes} <= {Act.CREATE}


@pytest.mark.parametrize("verb", Verb)
def test_two_that_say_they_are_one_host_are_both_named(verb: Verb) -> None:
    both = [seen(owner=OWNER), seen(id="i-2", owner="")]
    with pytest.raises(CloudError, match="stagefleet-host=gpu-0: i-2 and i-gpu-0"):
        plan(asked(verb, "gpu-0"), both)
    # What has ended says nothing any more.
    assert plan(asked(verb, "gpu-0"), [both[0], seen(id="i-2", life=Life.ENDING)]) is not None


def test_what_differs_from_the_inventory_is_told_and_stays() -> None:
    found = plan(
        asked(Verb.CREATE, "gpu-0"), [seen(owner=OWNER, type="g5.2xlarge", image="ami-87654321")]
    )
    assert found.changes == ()
    assert "type of i-gpu-0 is g5.2xlarge, and the inventory says g5.xlarge" in found.notices[0]
    assert "image of i-gpu-0 is ami-87654321" in found.notices[1]
    (stopped,) = plan(asked(Verb.CREATE, "gpu-0"), [seen(owner=OWNER, life=Life.STOPPED)]).notices
    assert stopped == "gpu-0: i-gpu-0 is stopped: ./fleet cloud instances start"
    (left,) = plan(asked(Verb.CREATE), [seen(owner=OWNER)]).notices
    assert "i-gpu-0 was made for gpu-0" in left
    assert "--host gpu-0" in left
    (foreign,) = plan(asked(Verb.CREATE, "gpu-0"), [seen(owner=OTHER_OWNER)]).notices
    assert "gpu-0 is i-gpu-0, which was not made with this fleet's authority" in foreign


def test_the_next_instance_is_told_from_those_that_have_ended() -> None:
    ended = [seen(id=name, life=Life.ENDED, owner=OWNER) for name in ("i-9", "i-1")]
    (change,) = plan(asked(Verb.CREATE, "gpu-0"), ended).changes
    assert change.before == ("i-1", "i-9")
    assert not reached(change, ended)
    failed = seen(id="i-3", life=Life.ENDED, reason="Server.InsufficientInstanceCapacity")
    with pytest.raises(CloudError, match=r"i-3 of gpu-0 ended before it ran: Server\.Insuff"):
        reached(change, [*ended, failed])


def test_a_line_says_what_goes_with_an_instance() -> None:
    gone = seen(owner=OWNER, type="g5.xlarge", disks=("vol-1", "vol-2"), kept=("vol-3",))
    (change,) = plan(asked(Verb.TERMINATE), [gone]).changes
    assert str(change) == (
        "- instance gpu-0: i-gpu-0 (g5.xlarge, runs), with vol-1, vol-2; vol-3 stays"
    )
    (made,) = plan(asked(Verb.CREATE, "gpu-1"), []).changes
    assert str(made) == (
        "+ instance gpu-1: g5.xlarge from ami-12345678, 100 GiB, in subnet-12345678"
    )


def look(verb: Verb, cloud: Machines, *only: str) -> operation.Run:
    return operation.look(verb, FLEET, "aws", cloud, OWNER, only)


def test_what_was_interrupted_is_said_and_continued() -> None:
    cloud = Machines(faults={1}, slow=0)
    said: list[str] = []
    with pytest.raises(CloudError, match="InsufficientInstanceCapacity\n1 of 2 changes") as error:
        operation.do(look(Verb.CREATE, cloud), FLEET, cloud, said.append, AT_ONCE)
    assert "it continues" in error.value.hint
    # What was begun has come to its end all the same.
    assert [line.rpartition(" ")[2] for line in said] == ["(begun)", "(done)"]
    run = look(Verb.CREATE, cloud)
    assert [change.host for change in run.plan.changes] == ["gpu-1"]
    cloud.slow = 3
    operation.do(run, FLEET, cloud, said.append, AT_ONCE)
    assert look(Verb.CREATE, cloud).plan.changes == ()


def test_what_was_refused_and_what_was_waited_for_are_both_said() -> None:
    cloud = Machines(faults={1})
    run = look(Verb.CREATE, cloud)
    cloud.slow = 1000
    hasty = Patience(bound=0, sleep=lambda _: None)
    with pytest.raises(CloudError, match=r"Capacity\nwaited 0 seconds(.|\n)*0 of 2 changes"):
        operation.do(run, FLEET, cloud, lambda _: None, hasty)


def test_waiting_has_a_bound_that_names_who_was_waited_for() -> None:
    cloud = Machines()
    run = look(Verb.CREATE, cloud)
    cloud.slow = 1000
    ticks = iter(range(0, 100_000, 20))
    patience = Patience(bound=60, sleep=lambda _: None, clock=lambda: float(next(ticks)))
    with pytest.raises(CloudError, match="waited 60 seconds for gpu-0: its instance is not seen"):
        operation.do(run, FLEET, cloud, lambda _: None, patience)
    assert cloud.slow > 900


def test_hosts_are_looked_for_in_each_cloud_and_nowhere_else() -> None:
    cloud = Machines([seen("left-over", owner=OWNER), seen("gpu-1", owner="")])
    assert look(Verb.TERMINATE, cloud, "gpu-9").plan.changes == ()
    run = look(Verb.TERMINATE, cloud, "left-over")
    assert [change.host for change in run.plan.changes] == ["left-over"]
    operation.require_known(["left-over", "gpu-0"], [run])
    with pytest.raises(SpecError, match="no instance of gpu-9, and the inventory asks for none"):
        operation.require_known(["left-over", "gpu-9"], [run])
    with pytest.raises(CloudError, match="i-gpu-1 of gpu-1 was not made with this fleet's"):
        look(Verb.TERMINATE, cloud, "gpu-1")
    assert look(Verb.CREATE, cloud).plan.changes == (
        Change(act=Act.CREATE, host="gpu-0", instance=FLEET.instance("gpu-0")),
    )
