"""Instances that are to be made for hosts: what a cloud says for all and a host for itself."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from runtime.spec.clouds import AwsCloud, AzureCloud, Cloud, GcpCloud, Instance

_NEEDED: Final = {
    "aws": ("type", "image", "disk", "key", "subnet"),
    "gcp": ("type", "image", "disk", "key", "zone"),
}
_GOOGLE_KEY: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}:(ssh|ecdsa)-[a-z0-9-]+ \S+( [^\n]*)?")


def merged(cloud: AwsCloud | GcpCloud, own: Instance) -> Instance:
    """Return what is asked for of a host's instance: its own keys, and the cloud's for the rest."""
    said = {key: each for key, each in own.model_dump().items() if each is not None}
    return cloud.instance.model_copy(update=said)


def cloud_problems(
    asked: Mapping[str, tuple[Instance | None, str | None]], clouds: Mapping[str, Cloud]
) -> Iterator[str]:
    """Yield clouds that are described twice or by nobody, and what is wrong with instances.

    Args:
        asked: by host, what it says of its instance, and the name of its cloud.
        clouds: by their names.
    """
    places: dict[str, list[str]] = {}
    for name, cloud in clouds.items():
        place = cloud.model_dump_json(exclude={"endpoint", "instance"})
        places.setdefault(place, []).append(name)
    for names in places.values():
        if len(names) > 1:
            # Each would remove what is made for the other.
            yield f"fleet.clouds {' and '.join(names)} are the same place: keep one of them"
    for host, (_, cloud_name) in asked.items():
        if cloud_name is not None and cloud_name not in clouds:
            yield (
                f"host {host} is in the cloud '{cloud_name}', which is not one of fleet.clouds "
                f"({', '.join(clouds) or 'there are none'})"
            )
    yield from _instance_problems(asked, clouds)


def _instance_problems(
    asked: Mapping[str, tuple[Instance | None, str | None]], clouds: Mapping[str, Cloud]
) -> Iterator[str]:
    """Yield what is missing or wrong, so that no cloud is asked for half of what is needed."""
    for host, (instance, name) in asked.items():
        if instance is None:
            continue
        if name is None:
            yield (
                f"host {host} has an instance, but is in no cloud: name one of fleet.clouds in "
                "fleet_host.cloud"
            )
        elif name in clouds:
            yield from _problems(host, instance, name, clouds[name])


def _problems(host: str, own: Instance, name: str, cloud: Cloud) -> Iterator[str]:
    if isinstance(cloud, AzureCloud):
        yield (
            f"host {host} has an instance, but instances in Azure ({name}) are not made yet: make "
            "it with another tool, tag it, and leave fleet_host.instance out"
        )
        return
    found = merged(cloud, own)
    for key in _NEEDED[cloud.provider]:
        if getattr(found, key) is None:
            yield (
                f"host {host}: its instance has no {key}: add fleet_host.instance.{key}, or "
                f"fleet.clouds.{name}.instance.{key} for all"
            )
    yield from _foreign_words(host, found, isinstance(cloud, AwsCloud))


def _foreign_words(host: str, found: Instance, in_aws: bool) -> Iterator[str]:
    """Yield what is said as another cloud says it."""
    of_aws = {"image": "ami-", "subnet": "subnet-"}
    for key, prefix in of_aws.items():
        value = getattr(found, key)
        if value is not None and value.startswith(prefix) is not in_aws:
            yield f"host {host}: its cloud has no {key} '{value}': that is the name of another's"
    if in_aws and found.zone is not None:
        yield f"host {host}: its instance is in the zone of its subnet: leave instance.zone out"
    if not in_aws and found.key is not None and not _GOOGLE_KEY.fullmatch(found.key):
        yield (
            f"host {host}: instance.key has to be a user and a public key, such as "
            "admin:ssh-ed25519 AAAA… (got another form)"
        )
