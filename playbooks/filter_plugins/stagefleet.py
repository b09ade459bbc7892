"""The playbooks' way into `runtime.spec`: plain data in, plain data out, nothing decided here.

Ansible loads this file anew for most tasks, also for those that use other filters only. So each
filter imports what it needs itself: together these imports take half a second.
"""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from runtime.spec.answers import Seen
    from runtime.spec.firewall import Decision, FirewallPlan
    from runtime.spec.fleet import Fleet
    from runtime.spec.network.decision import Decision as NetworkDecision
    from runtime.spec.network.plan import NetworkPlan
    from runtime.spec.plan import HostPlan


def fleet_plans(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return every host's plan, or the problems that forbid one, in the operator's words.

    The problems are returned because an error of a filter reaches the operator only below several
    screens of Ansible's own words.
    """
    from runtime.errors import StagefleetError
    from runtime.spec.inventory import notices

    try:
        found = _plans(hostvars)
    except StagefleetError as error:
        return {"problems": str(error), "plans": {}, "notices": []}
    return {
        "problems": "",
        "notices": list(notices(_own(hostvars))),
        "plans": {name: plan.model_dump(mode="json") for name, plan in found.items()},
    }


def fleet_spec(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fleet that an inventory describes, or the problems that forbid one.

    Other than for a plan, instances of hosts need not be there yet.
    """
    from runtime.errors import StagefleetError

    try:
        return {"problems": "", "fleet": _fleet(hostvars).model_dump(mode="json")}
    except StagefleetError as error:
        return {"problems": str(error), "fleet": {}}


def fleet_units(plan: Mapping[str, Any], python: str, release: str) -> list[dict[str, Any]]:
    """Return the services of a host's plan."""
    from runtime.spec.units import stage_units

    found = stage_units(_host_plan(plan), str(python), str(release))
    return [unit.model_dump(mode="json") for unit in found]


def fleet_supervisor(plan: Mapping[str, Any], service_manager: str) -> str:
    """Return what starts and watches the services of a host: systemd or supervisord."""
    from runtime.spec.errors import SpecError
    from runtime.spec.units import supervisor

    try:
        return supervisor(_host_plan(plan), str(service_manager))
    except SpecError as error:
        raise AnsibleFilterError(str(error)) from None


def fleet_probes(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what each host has to listen on and to dial, to prove the flows; or the problems."""
    from runtime.checks.ports_check import requests
    from runtime.errors import StagefleetError

    try:
        return {"problems": "", **requests(_fleet(hostvars), _connections(hostvars))}
    except StagefleetError as error:
        return {"problems": str(error)}


def fleet_ports_report(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the hosts have seen of the ports, compared with what is declared."""
    from runtime.checks.ports_check import outcome

    facts = {
        str(name): {
            key: _plain(variables[f"stagefleet_{key}"])
            for key in ("listening", "dialled")
            if f"stagefleet_{key}" in variables
        }
        for name in (*hostvars, "localhost")
        for variables in (hostvars[name],)
    }
    return outcome(_fleet(hostvars), _connections(hostvars), facts)


def fleet_questions(
    hostvars: Mapping[str, Mapping[str, Any]],
    plans: Mapping[str, Any],
    moment: str,
    hosts: list[str],
) -> dict[str, Any]:
    """Return the doctor's program, and what each of these hosts is asked."""
    from runtime.checks.doctor.run import requests

    found = {str(name): _host_plan(plan) for name, plan in plans.items()}
    return requests(_fleet(hostvars), found, str(moment), tuple(map(str, hosts)))


def fleet_report(
    hostvars: Mapping[str, Mapping[str, Any]],
    plans: Mapping[str, Any],
    moment: str,
    hosts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the doctor's report on these hosts, by what they have said."""
    import time

    from runtime.checks.doctor.run import outcome

    said = {
        str(name): _plain(hostvars[name]["doctor_seen"])
        for name in hosts
        if "doctor_seen" in hostvars[name]
    }
    dialled = moment == "now" and any("stagefleet_dialled" in hostvars[name] for name in hosts)
    ports = fleet_ports_report(hostvars)["report"] if dialled else None
    asked = {str(name): _host_plan(plans[name]) for name in hosts}
    report = outcome(_fleet(hostvars), asked, said, ports, str(moment), time.time())
    return report.model_dump(mode="json")


def fleet_ways(
    hostvars: Mapping[str, Mapping[str, Any]], seconds: object = None, streams: object = None
) -> dict[str, Any]:
    """Return what each host has to do to prove its links, or the problem that forbids it."""
    from runtime.checks.link_check import SECONDS, STREAMS, requests
    from runtime.errors import StagefleetError

    try:
        fleet = _fleet(hostvars)
    except StagefleetError as error:
        return {"problem": str(error)}
    looked = {
        name: each["looked"] for name, each in _links_facts(hostvars).items() if "looked" in each
    }
    return requests(fleet, looked, _number(seconds, SECONDS), _number(streams, STREAMS))


def fleet_links_report(
    hostvars: Mapping[str, Mapping[str, Any]], seconds: object = None
) -> dict[str, Any]:
    """Return what the hosts have measured of their links, compared with what these should bring."""
    from runtime.checks.link_check import SECONDS, outcome

    return outcome(_fleet(hostvars), _links_facts(hostvars), _number(seconds, SECONDS))


def fleet_firewall(plan: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be done about a host's firewall, by what the host has answered."""
    from runtime.spec.firewall import decide

    return _decision(decide, plan, seen)


def fleet_no_firewall(plan: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what takes a fleet's rules off a host."""
    from runtime.spec.firewall import decide_removal

    return _decision(decide_removal, plan, seen)


def fleet_network(plan: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be done about a host's data links, by what the host has answered."""
    from runtime.spec.network.decision import decide

    return _network_decision(decide, plan, seen)


def fleet_no_network(plan: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what puts a host's data links back."""
    from runtime.spec.network.decision import decide_removal

    return _network_decision(decide_removal, plan, seen)


def at_home(data: object, home: str) -> object:
    """Return plain data with every text that starts with `~/` below this home directory."""
    from runtime.spec import paths

    return paths.at_home(_plain(data), str(home))


def fleet_cuda(plan: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be done about a host's GPUs, by what the host has answered."""
    from runtime.spec.answers import Seen
    from runtime.spec.gpus.decision import CudaPlan, decide

    return decide(
        CudaPlan.model_validate_json(json.dumps(_plain(plan))),
        Seen.model_validate_json(json.dumps(_plain(seen))),
    ).model_dump(mode="json")


def fleet_windows(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the plans of the Windows machines; the inventory has been accepted before."""
    from runtime.spec.inventory import windows_of
    from runtime.spec.openings import openings
    from runtime.spec.windows import windows_plan

    fleet, ways = _fleet(hostvars), _connections(hostvars)
    found = windows_of(_own(hostvars), fleet)
    opened = openings(fleet) if found else {}
    return {
        name: windows_plan(
            fleet.name, name, machine, fleet.hosts, opened, ways[name][0]
        ).model_dump(mode="json")
        for name, machine in found.items()
    }


def _plans(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, "HostPlan"]:
    from runtime.spec.plan import plans
    from runtime.swarm.authority import fleet_authority

    fleet = _fleet(hostvars)
    return plans(fleet, fleet_authority(fleet).peers())


def _fleet(hostvars: Mapping[str, Mapping[str, Any]]) -> "Fleet":
    from runtime.spec.inventory import fleet_of

    return fleet_of(_own(hostvars))


def _own(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the variables that describe a fleet, and of the others the names.

    These count in the search of typos; their values may be expensive to template, or secret.
    """
    from runtime.spec.inventory import READ_VARIABLES

    return {
        str(name): {
            str(key): _plain(variables[key]) if key in READ_VARIABLES else None for key in variables
        }
        for name, variables in hostvars.items()
    }


def _connections(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, int]]:
    """Return where Ansible connects to each host."""
    return {
        str(name): (
            str(variables.get("ansible_host", name)),
            int(variables.get("ansible_port", 0)),
        )
        for name, variables in hostvars.items()
    }


def _decision(
    decide: Callable[["FirewallPlan", "Seen"], "Decision"], plan: object, seen: object
) -> dict[str, Any]:
    from runtime.spec.answers import Seen
    from runtime.spec.firewall import FirewallPlan

    return decide(
        FirewallPlan.model_validate_json(json.dumps(_plain(plan))),
        Seen.model_validate_json(json.dumps(_plain(seen))),
    ).model_dump(mode="json")


def _links_facts(hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        str(name): {
            key: _plain(variables[f"stagefleet_links_{key}"])
            for key in ("looked", "receiving", "sent", "ended")
            if f"stagefleet_links_{key}" in variables
        }
        for name, variables in hostvars.items()
    }


def _number(value: object, default: int) -> int:
    """Return a number that may come from a command line, as a text."""
    return default if value is None else int(str(value))


def _network_decision(
    decide: Callable[["NetworkPlan", "Seen"], "NetworkDecision"], plan: object, seen: object
) -> dict[str, Any]:
    from runtime.spec.answers import Seen
    from runtime.spec.network.plan import NetworkPlan

    found = decide(
        NetworkPlan.model_validate_json(json.dumps(_plain(plan))),
        Seen.model_validate_json(json.dumps(_plain(seen))),
    )
    return found.model_dump(mode="json") | {"report": found.report}


def _host_plan(plan: Mapping[str, Any]) -> "HostPlan":
    from runtime.spec.plan import HostPlan

    return HostPlan.model_validate_json(json.dumps(_plain(plan)))


def _plain(value: object) -> object:
    """Rebuild Ansible's lazy containers, whose items C code would not see."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


class FilterModule:
    """What Ansible looks for in a filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "fleet_plans": fleet_plans,
            "fleet_spec": fleet_spec,
            "fleet_units": fleet_units,
            "fleet_supervisor": fleet_supervisor,
            "fleet_probes": fleet_probes,
            "fleet_ports_report": fleet_ports_report,
            "fleet_questions": fleet_questions,
            "fleet_report": fleet_report,
            "fleet_firewall": fleet_firewall,
            "fleet_no_firewall": fleet_no_firewall,
            "fleet_ways": fleet_ways,
            "fleet_links_report": fleet_links_report,
            "fleet_network": fleet_network,
            "fleet_no_network": fleet_no_network,
            "fleet_cuda": fleet_cuda,
            "fleet_windows": fleet_windows,
            "at_home": at_home,
        }
