"""What goes wrong with calls of Google's cloud, and that a rerun completes it."""

import copy
import time
from collections.abc import Callable
from typing import Any

import google.auth
import pytest
from google.auth.credentials import AnonymousCredentials

from cloud import operation
from cloud.errors import CloudError
from cloud.gcp.api import Pending
from cloud.gcp.driver import Gcp
from cloud.gcp.writes import Action, Write
from runtime.spec.clouds import GcpCloud
from runtime.spec.fleet import Fleet
from tests.support.clouds import OWNER, cloud_fleet, wish
from tests.support.gcp.fake import Compute
from tests.support.gcp.faults import Fault
from tests.support.gcp.site import FLEET, HURRY, NO_PATIENCE, OF_OTHERS, Site, site
from tests.support.loopback import loopback_only

__all__ = ["loopback_only", "site"]


def test_what_somebody_has_done_already_counts_as_done(site: Site) -> None:
    site.compute.faults = {
        "compute.firewalls.insert": [Fault(409, "alreadyExists", made=True)],
        "compute.firewalls.delete": [Fault(404, "notFound", made=True)],
    }
    site.apply()
    assert site.lines() == []

    class Vanishing(Gcp):
        def _start(self, write: Write) -> Pending:
            if write.action is Action.UPDATE:
                del compute.firewalls[write.name]
            return super()._start(write)

    compute = site.compute
    row = GcpCloud(provider="gcp", project=compute.project, network="gpus", endpoint=site.endpoint)
    more = cloud_fleet(
        "gcp", access=[{"service": "rpc", "hosts": ["gpu-1"], "networks": ["192.0.2.7/32"]}]
    )
    name = "stagefleet-lab-gpu-1-tcp-8003-v4"
    site.apply(more, driver=Vanishing(row, "lab", OWNER, HURRY))
    assert compute.firewalls[name]["sourceRanges"] == ["192.0.2.7/32"]
    assert site.lines(more) == []
    # The last network of a firewall goes, and its groups stay.
    site.apply()
    assert "sourceRanges" not in compute.firewalls[name]
    site.apply(present=False)
    assert compute.firewalls == {}
    assert not any(compute.faults.values())


def test_tags_that_somebody_changes_meanwhile_are_read_again(site: Site) -> None:
    site.compute.faults["compute.instances.setTags"] = [
        Fault(412, "conditionNotMet", "fingerprint"),
        Fault(412, "CONDITION_NOT_MET", "fingerprint", later=True, name="CONDITION_NOT_MET"),
    ]
    site.apply()
    assert site.compute.tags_of("vm-gpu-0") >= {"web", "stagefleet-lab-gpu-0"}
    site.compute.faults["compute.instances.setTags"] = [
        Fault(412, "conditionNotMet", "fingerprint") for _ in range(50)
    ]
    with pytest.raises(CloudError, match="fingerprint"):
        site.apply(present=False)


AGAIN = [
    Fault(503, "backendError"),
    Fault(429, "rateLimitExceeded"),
    Fault(403, "rateLimitExceeded"),
    Fault(),
    Fault(made=True),
    Fault(503, "backendError", made=True),
]


@pytest.mark.parametrize("fault", AGAIN)
def test_what_passes_is_not_noticed_wherever_it_happens(site: Site, fault: Fault) -> None:
    fleet = cloud_fleet("gcp", inside=2)
    for third in range(3):
        first = len(site.compute.calls) + third
        # Every third call: the one that repeats it goes well.
        site.compute.fault_at = dict.fromkeys(range(first, first + 300, 3), fault)
        site.apply(fleet)
        assert site.lines(fleet) == []
        site.apply(fleet, present=False)
        assert site.compute.firewalls == {}
        assert site.compute.tags_of("vm-gpu-0") == {"web"}


def _forbidden(number: int) -> dict[int, Fault]:
    return {number: Fault(403, "forbidden", "Required 'compute.firewalls.create' permission")}


def _quota_later(number: int) -> dict[int, Fault]:
    return {number: Fault(403, "", "Quota exceeded", later=True, name="QUOTA_EXCEEDED")}


def _down(number: int) -> dict[int, Fault]:
    return dict.fromkeys(range(number, number + 3000), Fault(503, "backendError"))


def _lost(number: int) -> dict[int, Fault]:
    return {number: Fault(400, "invalid", "lost", made=True)}


@pytest.mark.parametrize(
    ("faults", "inside"), [(_forbidden, 2), (_quota_later, 1), (_down, 1), (_lost, 1)]
)
def test_a_rerun_completes_what_a_fault_at_any_call_has_interrupted(
    site: Site, faults: Callable[[int], dict[int, Fault]], inside: int
) -> None:
    fleet = cloud_fleet("gcp", inside=inside)
    compute = site.compute
    compute.operations.looks = 1
    driver = site.driver()
    hasty = site.driver(patience=NO_PATIENCE)
    for present in (True, False):
        begin = copy.deepcopy((compute.firewalls, compute.machines))
        calls = -len(compute.calls)
        _run(driver, fleet, present)
        calls += len(compute.calls)
        end = _seen(compute)
        interrupted = 0
        for number in range(calls):
            compute.firewalls, compute.machines = copy.deepcopy(begin)
            compute.fault_at = faults(len(compute.calls) + number)
            try:
                _run(hasty, fleet, present)
            except CloudError:
                interrupted += 1
            compute.fault_at = {}
            _run(driver, fleet, present)
            assert _seen(compute) == end
        # Operations can end badly only where one begins.
        assert interrupted == calls or (faults is _quota_later and interrupted >= 5)


def _run(driver: Gcp, fleet: Fleet, present: bool) -> None:
    operation.apply(wish(fleet, "gcp", present=present), driver, print)


def _seen(compute: Compute) -> Any:
    """Return what is there, apart from numbers that are never the same."""
    firewalls = {
        name: {key: value for key, value in each.items() if key != "id"}
        for name, each in compute.firewalls.items()
    }
    return copy.deepcopy((firewalls, compute.machines))


def test_a_quota_that_is_reached_halfway_says_that_a_rerun_continues(site: Site) -> None:
    site.compute.quota = 4
    with pytest.raises(
        CloudError, match=r"Quota 'FIREWALLS' exceeded(.|\n)* changes are made"
    ) as e:
        site.apply()
    assert "it continues" in e.value.hint
    assert len(site.compute.firewalls) == 4
    site.compute.quota = 100
    site.apply()
    assert site.lines() == []


def test_an_operation_that_does_not_end_is_said_and_many_are_given_up_together(
    site: Site,
) -> None:
    site.compute.operations.looks = 10_000_000
    before = time.monotonic()
    with pytest.raises(CloudError, match=r"still under way after 0\.5 seconds"):
        _run(site.driver(patience=NO_PATIENCE), FLEET, present=True)
    assert len(site.compute.unfinished()) == 10
    assert time.monotonic() - before < 10 * NO_PATIENCE.operation


def test_a_network_a_project_or_an_endpoint_that_is_not_there_is_named(site: Site) -> None:
    with pytest.raises(CloudError, match="networks/none' was not found") as error:
        site.driver(network="none").read()
    assert error.value.hint == "check the network's name in fleet.clouds"
    site.compute.project = "other-lab"
    row = GcpCloud(provider="gcp", project="some-lab", network="gpus", endpoint=site.endpoint)
    with pytest.raises(CloudError) as error:
        Gcp(row, "lab", OWNER, HURRY).read()
    assert error.value.hint == "check the project's id in fleet.clouds: some-lab"
    row = row.model_copy(update={"endpoint": "http://127.0.0.1:1"})
    with pytest.raises(CloudError, match="cannot be reached") as error:
        Gcp(row, "lab", OWNER, NO_PATIENCE).read()
    assert "endpoint of this cloud" in error.value.hint


def test_credentials_are_looked_for_only_where_they_are_safe(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    site.driver().read()
    row = GcpCloud(provider="gcp", project="some-lab")
    with pytest.raises(CloudError, match="there are no credentials") as error:
        Gcp(row, "lab", OWNER)
    assert "gcloud auth application-default login" in error.value.hint
    asked = []

    def default(**named: Any) -> Any:
        asked.append(named)
        return AnonymousCredentials(), None

    monkeypatch.setattr(google.auth, "default", default)
    Gcp(row, "lab", OWNER)
    assert len(asked) == 1


def test_the_fake_is_no_rubber_stamp(site: Site) -> None:
    good = {"name": "a", "network": "global/networks/gpus"} | OF_OTHERS
    path = "/compute/v1/projects/some-lab/global/firewalls"

    def post(query: dict[str, str], **change: Any) -> tuple[int, str]:
        code, body = site.compute.answer("POST", path, query, {}, good | change)
        return code, body.get("error", {}).get("message", "")

    identity = {"requestId": "6a4f6f0e-5d0c-4b56-9f5e-2d7d1c1a0b55"}
    changes: tuple[dict[str, Any], ...] = (
        {"nmae": "a"},
        {"name": "Bad_Name"},
        {"direction": "SIDEWAYS"},
        {"priority": "high"},
        {"priority": 70000},
        {"disabled": "no"},
        {"sourceRanges": ["192.0.2.9/24"]},
        {"sourceRanges": ["192.0.2.9/32", "2001:db8::/32"]},
        {"denied": [{"IPProtocol": "all"}]},
        {"allowed": []},
        {"allowed": [{"IPProtocol": "tcp", "ports": ["70000"]}]},
        {"allowed": [{"IPProtocol": "tcp", "ports": ["90-80"]}]},
        {"allowed": [{"IPProtocol": "icmp", "ports": ["1"]}]},
        {"allowed": [{"IPProtocol": "bogus"}]},
        {"sourceTags": ["Bad_Tag"]},
        {"sourceTags": [f"a{number}" for number in range(31)]},
        {"targetServiceAccounts": ["a@b.example"]},
    )
    for change in changes:
        assert post(identity, **change)[0] == 400, change
    assert post({"requestId": "1"})[0] == 400
    assert post(identity | {"colour": "red"})[0] == 400
    assert post(identity, network="global/networks/none")[0] == 404
    assert site.compute.firewalls == {}
    assert post(identity)[0] == 200
    # The same request once more is the same operation, another is a conflict.
    assert post(identity)[0] == 200
    other = {"requestId": "6a4f6f0e-5d0c-4b56-9f5e-2d7d1c1a0b56"}
    assert post(other)[0] == 409
    # What Google makes of a firewall without a source, and what a patch leaves as it is.
    assert post({"requestId": "6a4f6f0e-5d0c-4b56-9f5e-2d7d1c1a0b57"}, name="b", sourceRanges=[])
    assert site.compute.firewalls["b"]["sourceRanges"] == ["0.0.0.0/0"]
    assert site.compute.defects == []
