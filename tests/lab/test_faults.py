"""What happens to a running fleet when machines, links, disks and files fail."""

import time

import pytest

from lab import fault
from tests.lab.conftest import PROMPT, TOKENS
from tests.support.lab import LabFleet, first_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_LONG = 2000
# A step may take as long as serving.step_timeout_seconds says; then the client is told.
_SLACK_SECONDS = 15
_LATE_MILLISECONDS = 20


def test_a_power_cut_during_a_generation_ends_it_with_a_clear_error(
    at_risk: LabFleet, expected: list[int]
) -> None:
    whole = at_risk.answer(PROMPT, TOKENS)
    assert whole["token_ids"] == expected
    asked = at_risk.asked(PROMPT, _LONG)
    seen = first_text(asked, len(whole["text"]) // 2)
    at_risk.machine("gpu-2").kill()
    bound = at_risk.site["serving"]["step_timeout_seconds"] + _SLACK_SECONDS
    try:
        # It raises if that is exceeded.
        rest, problem = asked.communicate(timeout=bound)
    finally:
        asked.kill()
    assert asked.returncode == 1
    assert problem.startswith("error: ")
    # Whatever came before the cut is right.
    length = min(len(seen + rest), len(whole["text"]))
    assert (seen + rest)[:length] == whole["text"][:length]
    at_risk.mend()
    assert at_risk.answer(PROMPT, TOKENS)["token_ids"] == expected


def test_a_host_that_stands_still_for_a_while_costs_time_only(
    at_risk: LabFleet, expected: list[int]
) -> None:
    asked = at_risk.asked(PROMPT, TOKENS)
    seen = first_text(asked, 5)
    machine = at_risk.machine("gpu-1")
    machine.pause()
    time.sleep(3)  # longer than any step takes, shorter than one may
    machine.resume()
    rest, problem = asked.communicate(timeout=60)
    assert asked.returncode == 0, problem
    whole = at_risk.answer(PROMPT, TOKENS)
    assert whole["token_ids"] == expected
    assert (seen + rest).strip("\n") == whole["text"].strip("\n")


def test_lost_and_late_packets_change_no_token(at_risk: LabFleet, expected: list[int]) -> None:
    machine = at_risk.machine("gpu-1")
    fault.drop(machine, 5)
    assert at_risk.answer(PROMPT, TOKENS)["token_ids"] == expected
    fault.heal(machine)
    fault.delay(machine, _LATE_MILLISECONDS)
    late = at_risk.answer(PROMPT, TOKENS)
    assert late["token_ids"] == expected
    # Each step crosses the slow link once in and once out.
    assert late["decode_tokens_per_second"] < 1000 / (2 * _LATE_MILLISECONDS)


def test_a_damaged_configuration_is_mended_by_the_next_run(deployed: LabFleet) -> None:
    path = f"/etc/stagefleet/{deployed.site['name']}/stage-1.json"
    before = deployed.config(1)
    fault.corrupt(deployed.machine("gpu-1"), path)
    assert not deployed.runs_on("gpu-1", "python3", "-m", "json.tool", path)
    run = deployed.succeed("site")
    assert run.count("gpu-1", "changed") > 0
    assert deployed.config(1) == before


def test_a_full_disk_and_a_taken_port_are_named(at_risk: LabFleet, expected: list[int]) -> None:
    machine, port = at_risk.machine("gpu-1"), 9200
    with at_risk.changed():
        at_risk.hosts["gpu-1"]["fleet_host"]["stages"] = [{"stage": 1, "rpc_port": port}]
        fault.take_port(machine, port)
        fault.fill(machine)
        # What the preflight would have said first; and time for a server to say what is wrong.
        anyway = ("-e", "preflight_ignore=true", "-e", "health_timeout_seconds=40")
        full = at_risk.play("site", *anyway)
        fault.empty(machine)
        taken = at_risk.play("site", *anyway)
        fault.release_port(machine, port)
    assert full.code != 0
    assert "No space left on device" in full.output, full.output
    assert taken.code != 0
    assert f"port {port} (rpc) is taken by" in taken.output, taken.output
    at_risk.succeed("site")
    assert at_risk.answer(PROMPT, TOKENS)["token_ids"] == expected
