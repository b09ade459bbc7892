"""What follows from what hosts say: one fault at a time, on hosts that are otherwise well."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.checks.doctor.asked import Moment
from runtime.checks.doctor.catalogue import (
    CATALOGUE,
    LEAST_FREE_BYTES,
    SCARCE_FREE_BYTES,
    WORST_OFFSET_SECONDS,
)
from runtime.checks.doctor.finding import Verdict
from runtime.spec.base import Span
from runtime.swarm.report import Capacity, Remark, Shortage, SwarmReport
from tests.support.doctor import BLOCK_BYTES, GIB, NOW, a_fleet, answered, judged, well

FLEET = a_fleet()
WELL = {name: well(FLEET, name) for name in FLEET.hosts}
KNOWN = {check.id for check in CATALOGUE}

Said = dict[str, Any]


def with_fault(change: Callable[[Said], object], host: str = "gpu-1") -> dict[str, Said]:
    said = copy.deepcopy(WELL)
    change(said[host])
    return said


def test_hosts_that_are_well_have_no_bad_finding() -> None:
    found = judged(FLEET, WELL)
    bad = [each for each in found.values() if each.verdict in (Verdict.WARN, Verdict.FAIL)]
    assert bad == []
    assert {check for _, check, _ in found} <= KNOWN
    # What is skipped says why.
    assert all(each.evidence for each in found.values())


def _full(said: Said) -> None:
    for each in said["directories"]:
        each["free"] = 0


FAULTS: list[tuple[str, str, Callable[[Said], object], str, str]] = [
    ("disk.room", "/", _full, "0 B", "find what fills it"),
    (
        *("disk.room", "/"),
        lambda said: [each.update(read_only=True) for each in said["directories"]],
        *("read-only", "mount -o remount,rw /"),
    ),
    (
        *("os.modules", "nf_tables"),
        lambda said: said["modules"]["modules"].update(nf_tables=""),
        *("neither in kernel 6.1.0", "modprobe nf_tables"),
    ),
    (
        *("os.system", ""),
        lambda said: said["machine"].update(python=[3, 9, 2]),
        *("Python 3.9.2", "ansible_python_interpreter"),
    ),
    (
        *("clock.offset", ""),
        lambda said: said["time"].update(start=NOW + 60.4, end=NOW + 60.6),
        *("60.0 s ahead of the controller's, give or take 0.4 s", "apt install chrony"),
    ),
    (
        *("clock.offset", ""),
        lambda said: said["time"].update(start=NOW - 59.6, end=NOW - 59.4),
        *("60.0 s behind the controller's", "chronyc makestep"),
    ),
    (
        *("memory.room", ""),
        lambda said: said["memory"].update(total=BLOCK_BYTES, available=BLOCK_BYTES),
        *("the blocks of its servers take", "fewer blocks"),
    ),
    (
        *("model.files", ""),
        lambda said: said["model"].update(wrong_files=["block-0003.safetensors"]),
        *("block-0003.safetensors", "import-a-model.md"),
    ),
    (
        *("link.speed", "eth0"),
        lambda said: said["cards"][0].update(carrier=False),
        *("no carrier", "plug in the cable"),
    ),
    (
        *("path.mtu", "gpu-2"),
        lambda said: said["paths"]["gpu-2"].update(largest=1500),
        *("something between them lets less through", "tracepath -n 198.51.100.3"),
    ),
    (
        *("ports.free", "8003/tcp"),
        lambda said: said["sockets"][1].update(commands=["nc -l 8003"], process="nc (pid 9)"),
        *("port 8003 (rpc of stage 1) is taken by 'nc -l 8003' nc (pid 9)", "another port"),
    ),
    (
        *("service.running", "stage-1"),
        lambda said: said["services"]["stagefleet-lab-stage-1"].update(state="failed"),
        *("stagefleet-lab-stage-1 is failed", "./fleet service logs --limit gpu-1"),
    ),
]


@pytest.mark.parametrize(("check", "about", "change", "evidence", "remedy"), FAULTS)
def test_a_fault_fails_its_check_and_no_other(
    check: str, about: str, change: Callable[[Said], object], evidence: str, remedy: str
) -> None:
    found = judged(FLEET, with_fault(change))
    finding = found["gpu-1", check, about]
    assert finding.verdict is Verdict.FAIL
    assert evidence in finding.evidence
    assert remedy in finding.remedy
    failed = {key for key, each in found.items() if each.verdict is Verdict.FAIL}
    assert {key for key in failed if key[:2] != ("gpu-1", check)} == set()


def test_a_host_that_cannot_be_asked_fails_once() -> None:
    said = {name: each for name, each in WELL.items() if name != "gpu-2"}
    found = judged(FLEET, said)
    about = {key: each for key, each in found.items() if key[0] == "gpu-2"}
    assert list(about) == [("gpu-2", "host.reached", "")]
    assert about["gpu-2", "host.reached", ""].verdict is Verdict.FAIL


def test_ends_of_a_declared_network_that_differ_are_named() -> None:
    said = with_fault(lambda one: one["cards"][0].update(mtu=1500), "gpu-2")
    found = judged(FLEET, said)["gpu-1", "path.mtu", "gpu-2"]
    assert found.verdict is Verdict.FAIL
    assert "set the MTU of gpu-2 in the network data to 9000" in found.remedy


@given(free=st.integers(0, 10 * GIB))
def test_room_is_judged_by_its_limits_alone(free: int) -> None:
    def left(said: Said) -> None:
        for each in said["directories"]:
            each["free"] = free

    verdict = judged(FLEET, with_fault(left))["gpu-1", "disk.room", "/"].verdict
    assert (verdict is Verdict.FAIL) == (free < LEAST_FREE_BYTES)
    assert (verdict is Verdict.OK) == (free >= SCARCE_FREE_BYTES)


@given(
    offset=st.floats(-100, 100),
    there=st.floats(0, 20),
    there_seconds=st.floats(0, 5),
    back=st.floats(0, 20),
)
def test_a_clock_is_never_blamed_for_a_slow_way(
    offset: float, there: float, there_seconds: float, back: float
) -> None:
    """However long the ways take, a true offset within the limit fails nothing."""
    start = NOW + there + offset

    def said_at(said: Said) -> None:
        said["time"] = {"start": start, "end": start + there_seconds}
        said["answered"] = NOW + there + there_seconds + back

    finding = judged(FLEET, with_fault(said_at))["gpu-1", "clock.offset", ""]
    if abs(offset) <= WORST_OFFSET_SECONDS - 0.001:
        assert finding.verdict is not Verdict.FAIL
    # And one that is far beyond it is never missed.
    if abs(offset) > WORST_OFFSET_SECONDS + there + back + 0.001:
        assert finding.verdict is Verdict.FAIL


def test_before_a_deployment_nothing_is_asked_that_it_decides() -> None:
    said = with_fault(lambda one: one["model"].update(wrong_files=["config.json"]))
    found = judged(FLEET, said, Moment.BEFORE)
    assert found["gpu-1", "model.files", ""].verdict is Verdict.WARN
    late = {check.id for check in CATALOGUE if not check.before}
    assert not {check for _, check, _ in found} & late


def test_a_swarm_is_judged_by_what_stage_0_really_says() -> None:
    report = SwarmReport(
        at=NOW,
        model_digest="0",
        total_blocks=32,
        complete=False,
        replicas=(0,) * 32,
        missing=(Shortage(blocks=Span(start=8, end=16), help="start a server for them"),),
        single_copies=(),
        capacity=Capacity(now=0, best_known=0, quality=1),
        servers=(),
        remarks=(Remark(peer_id="Qm1", problem="its record is old", hint="restart it"),),
        events=(),
    )
    said = with_fault(
        lambda one: one.update(swarm=answered(report.model_dump(mode="json"))), "gpu-0"
    )
    found = judged(FLEET, said)
    gap = found["gpu-0", "swarm.view", "blocks 8"]
    assert (gap.verdict, gap.evidence) == (Verdict.FAIL, "nobody serves blocks [8, 16)")
    assert gap.remedy == "start a server for them"
    assert found["gpu-0", "swarm.view", "Qm1"].verdict is Verdict.WARN


def test_no_token_says_what_stage_0_says() -> None:
    error = {"event": "error", "kind": "RouteError", "message": "no route", "hint": "start stage 2"}
    said = with_fault(lambda one: one.update(token=answered(error)), "gpu-0")
    found = judged(FLEET, said)["gpu-0", "pipeline.token", ""]
    assert found.verdict is Verdict.FAIL
    assert "no route" in found.evidence
    assert found.remedy == "start stage 2"


def test_what_is_not_deployed_is_not_asked_for_a_token() -> None:
    said = copy.deepcopy(WELL)
    for one in said.values():
        one["services"] = {}
    found = judged(FLEET, said)
    assert found["gpu-0", "pipeline.token", ""].verdict is Verdict.SKIPPED
    assert found["gpu-1", "service.running", "stage-1"].evidence == "not deployed here"


@given(
    dropped=st.sets(st.sampled_from(sorted(WELL["gpu-1"].keys() - {"asked", "answered", "time"})))
)
def test_a_host_that_says_less_is_judged_all_the_same(dropped: set[str]) -> None:
    """What a host could not say never raises, and fails nothing by itself."""
    said = with_fault(lambda one: one.update(dict.fromkeys(dropped)))
    failed = [each for each in judged(FLEET, said).values() if each.verdict is Verdict.FAIL]
    assert failed == []
