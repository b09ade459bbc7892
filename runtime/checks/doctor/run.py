"""One run of the doctor, seen from the playbook: plain data in, plain data out."""

import json
from collections.abc import Mapping
from typing import Any

from runtime.checks.doctor import asked, judge
from runtime.checks.doctor.asked import Moment
from runtime.checks.doctor.finding import Report, Verdict, lines, report
from runtime.checks.doctor.seen import read
from runtime.checks.ports_report import Row
from runtime.spec.fleet import Fleet
from runtime.spec.plan import HostPlan


def requests(
    fleet: Fleet, plans: Mapping[str, HostPlan], moment: str, hosts: tuple[str, ...]
) -> dict[str, Any]:
    """Return the program and what each of these hosts is asked."""
    wanted = {name: plan for name, plan in plans.items() if name in hosts}
    return {
        "program": asked.program(),
        "requests": asked.requests(fleet, wanted, Moment(moment)),
    }


def outcome(
    fleet: Fleet,
    plans: Mapping[str, HostPlan],
    said: Mapping[str, Mapping[str, Any]],
    ports: Mapping[str, Any] | None,
    moment: str,
    at: float,
) -> Report:
    """Return the report.

    Args:
        fleet: the fleet.
        plans: of the hosts that were to be asked.
        said: by host, what the program has printed there, with "asked" and "answered".
        ports: the report of all ports, as `ports_check.outcome` returns it; None: none was made.
        moment: when the hosts were asked.
        at: the controller's clock.
    """
    seen = {name: read(name, each) for name, each in said.items()}
    rows = (
        [Row.model_validate_json(json.dumps(row)) for row in ports["rows"]]
        if ports is not None
        else None
    )
    found = judge.findings(fleet, plans, seen, rows, Moment(moment))
    return report(fleet.name, at, moment, found)


def told(found: Report) -> dict[str, Any]:
    """Return a report for a playbook: as lines, as data, and the problem if there is one."""
    failed = found.model_copy(
        update={
            "findings": tuple(each for each in found.findings if each.verdict is Verdict.FAIL),
            "changes": (),
        }
    )
    return {
        "lines": lines(found),
        "problem": "\n".join(lines(failed)) if failed.findings else "",
        "report": found.model_dump(mode="json"),
    }
