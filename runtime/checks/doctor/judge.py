"""All judges together: what every host has said, and what follows."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from runtime.checks.doctor.asked import Moment
from runtime.checks.doctor.catalogue import REACHED
from runtime.checks.doctor.finding import Finding, Verdict
from runtime.checks.doctor.judges import gpus, machine, network, running, storage
from runtime.checks.doctor.judges.context import Context
from runtime.checks.doctor.seen import Seen
from runtime.checks.ports_report import Row
from runtime.spec.fleet import Fleet
from runtime.spec.plan import HostPlan

JUDGES: Final[tuple[Callable[[Context], Iterator[Finding]], ...]] = (
    machine.system,
    machine.modules,
    machine.offset,
    machine.keeper,
    storage.room,
    storage.speed,
    storage.memory,
    storage.model,
    storage.model_speed,
    gpus.driver,
    gpus.torch,
    network.cards,
    network.packets,
    network.ports,
    running.renewal,
    running.services,
    running.swarm,
    running.token,
)
# Of stage 0's host only, and only once something runs.
_OF_STAGE_0: Final = (running.swarm, running.token)


def findings(
    fleet: Fleet,
    plans: Mapping[str, HostPlan],
    seen: Mapping[str, Seen],
    rows: Iterable[Row] | None,
    moment: Moment,
) -> Iterator[Finding]:
    """Yield what follows for every host of the plans.

    Args:
        fleet: the fleet.
        plans: the hosts that were to be asked.
        seen: what each of them has said; one that is missing could not be asked.
        rows: what was dialled; None if nothing was.
        moment: when that was.
    """
    dialled = list(rows) if rows is not None else None
    for host, plan in plans.items():
        if host not in seen:
            yield Finding(
                check=REACHED.id,
                host=host,
                verdict=Verdict.FAIL,
                evidence="Ansible does not get in, or its Python cannot run the doctor's program",
                remedy=f"ansible {host} -m ping says why",
            )
            continue
        context = Context(fleet, plan, seen[host], moment, seen)
        yield context.ok(REACHED, f"answered within {_seconds(seen[host]):.1f} s")
        for judge in JUDGES:
            if judge in _OF_STAGE_0 and (moment is Moment.BEFORE or not _has_stage_0(plan)):
                continue
            yield from judge(context)
        own = [row for row in dialled if row.host == host] if dialled is not None else None
        yield from network.reach(context, own)


def _seconds(seen: Seen) -> float:
    return seen.answered - seen.asked


def _has_stage_0(plan: HostPlan) -> bool:
    return any(stage.name == "stage-0" for stage in plan.stages)
