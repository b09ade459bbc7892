"""Instances as hosts of an inventory: which there are, and what is known of them."""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from cloud.drivers import instances_driver
from cloud.instances import Life, Seen, living, named
from runtime.spec.base import Frozen, words
from runtime.spec.clouds import AzureCloud
from runtime.spec.errors import SpecError
from runtime.spec.fleet import Site
from runtime.spec.inventory import CLOUD_VARIABLE, SITE_VARIABLE
from runtime.swarm.authority import fleet_authority

GROUP: Final = "stagefleet_hosts"
"""The group that playbooks put the hosts of a fleet into."""


class Hosts(Frozen):
    """What clouds add to an inventory.

    Attributes:
        hosts: variables by the names of hosts.
        warnings: what is not as it could be, as an operator reads it.
        group: the group that they are in.
    """

    hosts: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]
    group: str = GROUP


def read(variables: object, known: Collection[str]) -> Hosts:
    """Return the instances that say they are hosts of the fleet, and run.

    Args:
        variables: those of the file that says `fleet`.
        known: the hosts that the inventory has already, for clouds that know labels only.

    Raises:
        SpecError: that file describes no fleet.
        CloudError: a cloud cannot be asked, or two instances say that they are one host.
    """
    site = _site(variables)
    owner = fleet_authority(site).mark()
    hosts: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    where: dict[str, str] = {}
    for name, cloud in sorted(site.clouds.items()):
        if isinstance(cloud, AzureCloud):
            warnings.append(f"{name}: instances in Azure are not looked for yet")
            continue
        provider = instances_driver(cloud, site.name, owner)
        found = living(named(provider.read(), known))
        for host in sorted(found.keys() & where.keys()):
            raise SpecError(
                f"host {host} has an instance in '{where[host]}' and another in '{name}'",
                hint="take the tag off the one that is not this host, or terminate it",
            )
        where |= dict.fromkeys(found, name)
        hosts |= _hosts(name, found)
        warnings += _warnings(name, found.values())
    return Hosts(hosts=hosts, warnings=tuple(warnings))


def _site(variables: object) -> Site:
    data = variables.get(SITE_VARIABLE) if isinstance(variables, Mapping) else None
    if data is None:
        raise SpecError(
            f"the file that should describe the fleet does not say '{SITE_VARIABLE}'",
            hint="correct fleet_file in the file of the plugin stagefleet_instances",
        )
    try:
        return Site.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise words(error, Site, SITE_VARIABLE) from error


def _hosts(cloud: str, found: Mapping[str, Seen]) -> dict[str, dict[str, Any]]:
    return {
        host: {
            "ansible_host": seen.public_ip or seen.addresses[0],
            CLOUD_VARIABLE: {"cloud": cloud, "addresses": list(seen.addresses)}
            | ({"public_ip": seen.public_ip} if seen.public_ip else {}),
        }
        for host, seen in found.items()
        if seen.life is Life.RUNNING and seen.addresses
    }


def _warnings(cloud: str, found: Iterable[Seen]) -> Iterable[str]:
    for seen in found:
        if seen.life is not Life.RUNNING:
            yield f"{cloud}: {seen.id} of host {seen.host} {seen.life.value}: it is no host now"
