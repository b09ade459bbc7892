"""Instances of the fake: what Google's cloud makes of what it is asked for, or why it does not.

What the discovery document does not say of them is this project's understanding of the real one.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from tests.support.gcp.faults import Refusal
from tests.support.gcp.operations import BASE
from tests.support.gcp.semantics import tag_problems

IMAGE: Final = "projects/ml-images/global/images/family/common-cu124"
TYPES: Final = {"g2-standard-4", "a2-highgpu-1g"}
"""Machine types that are there; each of them has a GPU."""

ZONES: Final = {"europe-west4-a", "europe-west4-b"}
_LABEL: Final = re.compile(r"[a-z0-9_-]{0,63}")


def insert_problems(zone: str, body: dict[str, Any]) -> Iterator[Refusal]:
    """Yield why an instance cannot be made."""
    if zone not in ZONES:
        yield Refusal(400, "invalid", f"Invalid value for field 'zone': '{zone}'")
    path, _, kind = body.get("machineType", "").rpartition("/")
    if path != f"zones/{zone}/machineTypes" or kind not in TYPES:
        yield Refusal(
            404, "notFound", f"The resource 'zones/{zone}/machineTypes/{kind}' was not found"
        )
    for text in _texts(zone, body):
        yield Refusal(400, "invalid", f"Invalid value for field 'resource.{text}")


def _texts(zone: str, body: dict[str, Any]) -> Iterator[str]:
    yield from _disk_problems(zone, body.get("disks", []))
    for key, value in body.get("labels", {}).items():
        if not _LABEL.fullmatch(value) or not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key):
            yield f"labels': '{key}={value}'"
    keys = [each["key"] for each in body.get("metadata", {}).get("items", ())]
    if len(set(keys)) < len(keys):
        yield "metadata': duplicates"
    yield from (f"tags': {each}" for each in tag_problems(body["tags"].get("items", []), "t", 64))
    if body.get("scheduling", {}).get("onHostMaintenance") != "TERMINATE":
        yield "scheduling.onHostMaintenance': instances with GPUs do not support live migration"
    yield from _card_problems(zone.rpartition("-")[0], body.get("networkInterfaces", []))


def _disk_problems(zone: str, disks: list[dict[str, Any]]) -> Iterator[str]:
    if len([each for each in disks if each.get("boot")]) != 1:
        yield "disks': exactly one of them has to be the boot disk"
    for disk in disks:
        asked = disk.get("initializeParams", {})
        if asked.get("sourceImage") != IMAGE:
            yield f"disks[0].initializeParams.sourceImage': '{asked.get('sourceImage')}'"
        if not asked.get("diskType", f"zones/{zone}/").startswith(f"zones/{zone}/"):
            yield f"disks[0].initializeParams.diskType': '{asked['diskType']}'"
        if int(asked.get("diskSizeGb", "10")) < 10:
            yield "disks[0].initializeParams.diskSizeGb': smaller than the image"


def _card_problems(region: str, cards: list[dict[str, Any]]) -> Iterator[str]:
    if not cards:
        yield "networkInterfaces': at least one network interface is required"
    for card in cards:
        found = re.search(r"regions/([^/]+)/subnetworks/", card.get("subnetwork", ""))
        if found and found[1] != region:
            yield f"networkInterfaces[0].subnetwork': not in {region}"


def made(project: str, zone: str, body: dict[str, Any], number: int) -> dict[str, Any]:
    """Return an instance as it is kept."""
    path = f"{BASE}/projects/{project}/zones/{zone}"
    disks = [
        {key: each for key, each in disk.items() if key != "initializeParams"}
        | {
            "source": f"{path}/disks/{body['name']}",
            "diskSizeGb": disk["initializeParams"].get("diskSizeGb", "10"),
        }
        for disk in body["disks"]
    ]
    cards = [
        card
        | {"name": f"nic{index}", "networkIP": f"10.164.0.{number % 250 + 2}"}
        | (
            {"accessConfigs": [each | {"natIP": _outside(number)} for each in outside]}
            if (outside := card.get("accessConfigs"))
            else {}
        )
        for index, card in enumerate(body["networkInterfaces"])
    ]
    return body | {
        "kind": "compute#instance",
        "id": str(number),
        "zone": path,
        "machineType": f"{BASE}/projects/{project}/{body['machineType']}",
        "status": "RUNNING",
        "disks": disks,
        "networkInterfaces": cards,
        "selfLink": f"{path}/instances/{body['name']}",
    }


def started(machine: dict[str, Any], number: int) -> None:
    """Let an instance run; the address that the outside reaches is another one then."""
    machine["status"] = "RUNNING"
    for card in machine["networkInterfaces"]:
        for each in card.get("accessConfigs", ()):
            each["natIP"] = _outside(number)


def stopped(machine: dict[str, Any]) -> None:
    """Let an instance stop; it gives back the address that the outside reaches."""
    machine["status"] = "TERMINATED"
    for card in machine["networkInterfaces"]:
        for each in card.get("accessConfigs", ()):
            each.pop("natIP", None)


def _outside(number: int) -> str:
    return f"198.51.100.{number % 250 + 2}"
