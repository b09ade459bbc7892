"""One description of a service, which the role `unit` renders for systemd or for supervisord."""

from runtime.spec.base import Frozen
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
        stop_seconds: how long a stop may take before the process group is killed.
    """

    name: str
    description: str
    command: tuple[str, ...]
    environment: dict[str, str]
    digest: str
    health: tuple[str, ...]
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
            environment={"PYTHONPATH": release, "PYTHONUNBUFFERED": "1"},
            digest=stage.digest,
            health=(*program, "health", "--config", stage.config_path),
        )
        for stage in plan.stages
    )
