"""One description of a service, which the role `unit` renders for systemd or for supervisord."""

from runtime.spec.base import Frozen
from runtime.spec.errors import SpecError
from runtime.spec.plan import HostPlan


class Unit(Frozen):
    """A service to be supervised.

    Attributes:
        name: the unit's name, without a suffix.
        description: what an administrator reads in a status.
        command: the program and its arguments.
        environment: variables to set.
        digest: what the service read when it started; another digest asks for a restart.
        health: a command that ends with 0 once the service does its work.
        gpu: it may compute on a GPU, so it must be able to open one.
        stop_seconds: how long a stop may take before the process group is killed.
    """

    name: str
    description: str
    command: tuple[str, ...]
    environment: dict[str, str]
    digest: str
    health: tuple[str, ...]
    gpu: bool = False
    stop_seconds: int = 15


def stage_units(plan: HostPlan, python: str, release: str) -> tuple[Unit, ...]:
    """Return the services of a host's stages.

    Args:
        plan: the host's plan.
        python: the interpreter that has the locked requirements.
        release: the directory with this project's own packages.
    """
    program = (python, "-m", "runtime")
    return tuple(
        Unit(
            name=stage.unit,
            description=f"stagefleet {plan.fleet}: {stage.name}",
            command=(*program, "serve", "--config", stage.config_path),
            environment={
                "PYTHONPATH": release,
                # Whatever lies in the directory it is started from is not imported.
                "PYTHONSAFEPATH": "1",
                "PYTHONUNBUFFERED": "1",
            },
            digest=stage.digest,
            health=(
                *(*program, "health", "--config", stage.config_path),
                *(("--pipeline",) if stage.awaits_pipeline else ()),
            ),
            gpu=stage.gpu,
        )
        for stage in plan.stages
    )


def supervisor(plan: HostPlan, service_manager: str) -> str:
    """Return what starts and watches a host's services: "systemd" or "supervisord".

    Args:
        plan: the host's plan.
        service_manager: what runs as the host's first process, as Ansible's facts name it.

    Raises:
        SpecError: the inventory asks for systemd where it cannot be had.
    """
    if plan.supervisor == "systemd":
        if service_manager != "systemd":
            raise SpecError(
                f"host {plan.host} asks for supervisor systemd, but {service_manager} runs there",
                hint="set its fleet_host.supervisor to auto or supervisord",
            )
        if plan.scope != "system":
            raise SpecError(
                f"host {plan.host} asks for supervisor systemd, but the scope is {plan.scope}: "
                "units of systemd are installed by root",
                hint="set fleet.install.scope to system, or the supervisor to supervisord",
            )
    if plan.supervisor == "auto":
        watched_by_systemd = service_manager == "systemd" and plan.scope == "system"
        return "systemd" if watched_by_systemd else "supervisord"
    return plan.supervisor
