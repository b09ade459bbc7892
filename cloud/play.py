"""What the Ansible modules do: one cloud's rules and instances, as tasks say it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from cloud import instance_operation, instances, operation
from cloud.changes import after, text
from cloud.drivers import driver, instances_driver
from cloud.instances import Verb
from cloud.operation import Wish
from cloud.rules import clouds_of
from runtime.errors import StagefleetError
from runtime.spec.clouds import AzureCloud
from runtime.spec.fleet import Fleet
from runtime.swarm.authority import fleet_authority


def run(arguments: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Return what a task has changed or, in check mode, would change, with a diff by rules.

    Args:
        arguments: `fleet`, as plain data; `cloud`, one of its clouds; `state`, "present" or
            "absent"; `instances`, the same of the fleet's instances; `allow_public` and `purge`
            as in `operation.Wish`.
        check: change nothing.

    Raises:
        StagefleetError: as `operation.plan` and `operation.apply`.
    """
    fleet = _fleet(arguments)
    authority = fleet_authority(fleet)
    present = arguments["state"] == "present"
    if present and not check:
        authority.create()
    wish = Wish(
        fleet=fleet,
        cloud=arguments["cloud"],
        owner=authority.mark(),
        present=present,
        allow_public=arguments["allow_public"],
        purge=arguments["purge"],
        without_instances=arguments["instances"] == "absent",
    )
    provider = driver(fleet.clouds[wish.cloud], fleet.name, wish.owner)
    if check:
        done = operation.plan(wish, provider)
    else:
        done = operation.apply(wish, provider, lambda _: None)
    return _result(
        f"{wish.cloud} ({fleet.clouds[wish.cloud].provider})",
        done.changes,
        done.notices,
        text(done.have),
        text(after(done.have, done.changes)),
    )


def run_instances(arguments: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Return what a task has changed or, in check mode, would change, with a diff by instances.

    Args:
        arguments: `fleet`, as plain data; `cloud`, one of its clouds; `state`, "present" or
            "absent".
        check: change nothing.

    Raises:
        StagefleetError: as `instance_operation.look` and `instance_operation.do`.
    """
    fleet, name = _fleet(arguments), arguments["cloud"]
    cloud = fleet.clouds[name]
    header = f"instances of {name} ({cloud.provider})"
    if isinstance(cloud, AzureCloud):
        # No host of such a cloud may ask for one.
        return _result(header, (), (), [], [])
    verb = Verb.CREATE if arguments["state"] == "present" else Verb.TERMINATE
    authority = fleet_authority(fleet)
    if verb is Verb.CREATE and not check:
        authority.create()
    provider = instances_driver(cloud, fleet.name, authority.mark())
    done = instance_operation.look(verb, fleet, name, provider, authority.mark())
    if not check and done.plan.changes:
        instance_operation.do(done, fleet, provider, lambda _: None)
    changes = done.plan.changes
    before, made = instances.text(done.seen), instances.text_after(done.seen, changes)
    return _result(header, changes, done.plan.notices, before, made)


class Task(Protocol):
    """What a task asks for, and how it ends; Ansible's own `AnsibleModule` is one."""

    params: Mapping[str, Any]
    check_mode: bool

    def warn(self, warning: str) -> None:
        """Tell the operator something."""

    def fail_json(self, msg: str) -> NoReturn:
        """End the task with an error."""

    def exit_json(self, **result: object) -> NoReturn:
        """End the task with its result."""


def carry_out(work: Callable[[Mapping[str, Any], bool], dict[str, Any]], task: Task) -> NoReturn:
    """Do a task's work, and end it with what was changed or with what is wrong."""
    try:
        result = work(task.params, task.check_mode)
    except StagefleetError as error:
        task.fail_json(msg=str(error))
    for notice in result["notices"]:
        task.warn(notice)
    task.exit_json(**result)


def _fleet(arguments: Mapping[str, Any]) -> Fleet:
    fleet = Fleet.model_validate_json(json.dumps(arguments["fleet"]))
    clouds_of(fleet, arguments["cloud"])
    return fleet


def _result(
    header: str,
    changes: Sequence[object],
    notices: Sequence[str],
    before: Sequence[str],
    made: Sequence[str],
) -> dict[str, Any]:
    return {
        "changed": bool(changes),
        "changes": [str(change) for change in changes],
        "notices": list(notices),
        "diff": {
            "before_header": header,
            "after_header": header,
            "before": "".join(f"{line}\n" for line in before),
            "after": "".join(f"{line}\n" for line in made),
        },
    }
