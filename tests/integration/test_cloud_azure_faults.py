"""The Azure driver while calls fail, and while others change the same things."""

import copy

import pytest

from cloud import operation
from cloud.azure.client import Patience
from cloud.errors import CloudError
from tests.support.azure import FakeAzure, Fault
from tests.support.azure_checks import ASG, NIC, NSG, Refusal
from tests.support.azure_fleets import (
    CIDR,
    GPU_0,
    GPU_1,
    ONCE,
    applied,
    azure,
    by_hand,
    groups_of,
    marked,
    planned,
    provider,
    wish,
)
from tests.support.loopback import loopback_only

__all__ = ["azure", "loopback_only"]


def test_changes_of_others_at_the_same_moment_are_kept(azure: FakeAzure) -> None:
    applied(azure)
    turns = iter(range(2))

    def meddle(method: str, kind: str, name: str) -> None:
        if (method, kind, name) == ("PUT", NSG, GPU_1) and (turn := next(turns, None)) is not None:
            rule = by_hand(f"mine-{turn}", 300 + turn)
            azure.change(GPU_1, lambda rules: [*rules, rule])

    azure.before = meddle
    applied(azure, access=[CIDR])
    assert {"mine-0", "mine-1"} <= {rule["name"] for rule in azure.rules(GPU_1)}
    azure.before = lambda *_: None
    assert planned(azure, access=[CIDR]) == []


def test_somebody_who_never_leaves_a_group_alone_is_an_error(azure: FakeAzure) -> None:
    applied(azure)

    def meddle(method: str, kind: str, name: str) -> None:
        if (method, kind, name) == ("PUT", NSG, GPU_1):
            azure.change(GPU_1, lambda rules: rules)

    azure.before = meddle
    with pytest.raises(CloudError, match="PreconditionFailed"):
        applied(azure, access=[CIDR])


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, "TooManyRequests", headers={"Retry-After": "0"}),
        Fault(503, "ServiceUnavailable"),
        Fault(0),
        Fault(500, after=True),
    ],
)
def test_calls_that_fail_for_a_moment_are_repeated(azure: FakeAzure, fault: Fault) -> None:
    azure.interface("gpu-0")
    azure.faults = dict.fromkeys(range(0, 200, 3), fault)
    applied(azure)
    azure.faults = {}
    assert planned(azure) == []


def test_another_operation_in_progress_is_waited_for(azure: FakeAzure) -> None:
    told: set[tuple[str, ...]] = set()

    def busy(*call: str) -> None:
        if call[0] != "GET" and call not in told:
            told.add(call)
            raise Refusal(409, "AnotherOperationInProgress")

    azure.before = busy
    azure.interface("gpu-0")
    applied(azure)
    assert planned(azure) == []
    applied(azure, present=False)
    assert marked(azure) == []
    assert {kind for _, kind, _ in told} == {NSG, ASG, NIC}


def test_an_operation_that_others_supersede_is_repeated(azure: FakeAzure) -> None:
    applied(azure)
    fault = Fault(code="CanceledAndSupersededDueToAnotherOperation", operation=True)
    azure.calls.clear()
    applied(azure, access=[CIDR])
    writes = [number for number, (method, _) in enumerate(azure.calls) if method == "PUT"]
    applied(azure)
    azure.calls.clear()
    azure.faults = {writes[0]: fault}
    assert len(applied(azure, access=[CIDR])) == 1
    assert azure.counts()["PUT"] == 2


FAULTS = {
    "refused": Fault(503, "ServiceUnavailable"),
    "lost answer": Fault(0, after=True),
    "failed operation": Fault(operation=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("present", [True, False], ids=["apply", "destroy"])
def test_a_rerun_completes_what_a_fault_at_any_call_has_interrupted(
    azure: FakeAzure, name: str, present: bool
) -> None:
    azure.looks = 0
    azure.interface("gpu-0")
    applied(azure, inside=2, present=not present)
    before = copy.deepcopy(azure.things)
    azure.calls.clear()
    applied(azure, inside=2, present=present)
    calls = list(azure.calls)
    writes = [number for number, (method, _) in enumerate(calls) if method != "GET"]
    failed = 0
    for number in writes if FAULTS[name].operation else range(len(calls)):
        azure.things = copy.deepcopy(before)
        azure.calls.clear()
        azure.faults = {number: FAULTS[name]}
        try:
            applied(azure, ONCE, inside=2, present=present)
        except CloudError:
            failed += 1
        azure.faults = {}
        applied(azure, inside=2, present=present)
        assert planned(azure, inside=2, present=present) == []
        assert groups_of(azure, "gpu-0")[0] == (GPU_0 if present else "")
        assert bool(marked(azure)) == present
    assert failed >= len(writes)


def test_a_quota_that_is_reached_halfway_says_what_is_made(azure: FakeAzure) -> None:
    def full(method: str, kind: str, name: str) -> None:
        if (method, kind, name) == ("PUT", NSG, GPU_1):
            raise Refusal(400, "NetworkSecurityGroupCountLimitReached", "the limit is 1")

    azure.before = full
    with pytest.raises(CloudError, match=r"\d+ of \d+ changes are made") as error:
        applied(azure)
    assert "Usage + quotas" in str(error.value)
    azure.before = lambda *_: None
    applied(azure)
    assert planned(azure) == []


def test_an_operation_that_never_ends_is_given_up(azure: FakeAzure) -> None:
    azure.looks = 10_000
    asked = wish(azure)
    patience = Patience(repeats=0, pause=0, poll=0, longest=0.2)
    with pytest.raises(CloudError, match="Azure still works on stagefleet-lab-"):
        operation.apply(asked, provider(asked, patience), lambda _: None)
    azure.looks = 1
