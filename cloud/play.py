"""What the Ansible module does: one cloud's rules, as a task says it."""

import json
from collections.abc import Mapping
from typing import Any

from cloud import operation
from cloud.changes import after, text
from cloud.drivers import driver
from cloud.operation import Wish
from runtime.spec.fleet import Fleet
from runtime.swarm.authority import fleet_authority


def run(arguments: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Return what a task has changed or, in check mode, would change, with a diff by rules.

    Args:
        arguments: `fleet`, as plain data; `cloud`, one of its clouds; `state`, "present" or
            "absent"; `allow_public` and `purge` as in `operation.Wish`.
        check: change nothing.

    Raises:
        StagefleetError: as `operation.plan` and `operation.apply`.
    """
    fleet = Fleet.model_validate_json(json.dumps(arguments["fleet"]))
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
    )
    provider = driver(fleet.clouds[wish.cloud], fleet.name, wish.owner)
    if check:
        done = operation.plan(wish, provider)
    else:
        done = operation.apply(wish, provider, lambda _: None)
    header = f"{wish.cloud} ({fleet.clouds[wish.cloud].provider})"
    return {
        "changed": bool(done.changes),
        "changes": [str(change) for change in done.changes],
        "notices": list(done.notices),
        "diff": {
            "before_header": header,
            "after_header": header,
            "before": "".join(f"{line}\n" for line in text(done.have)),
            "after": "".join(f"{line}\n" for line in text(after(done.have, done.changes))),
        },
    }
