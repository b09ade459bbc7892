"""Take out of Google's discovery document what the fake of its compute API is checked against.

    pip download --no-deps google-api-python-client
    unzip -p google_api_python_client-*.whl \
        googleapiclient/discovery_cache/documents/compute.v1.json > /tmp/discovery.json
    python -m tests.support.gcp.extract /tmp/discovery.json

It writes `compute.v1.json` beside itself, with the revision it was taken from.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

METHODS: Final = (
    "compute.firewalls.delete",
    "compute.firewalls.get",
    "compute.firewalls.insert",
    "compute.firewalls.list",
    "compute.firewalls.patch",
    "compute.firewalls.update",
    "compute.globalOperations.get",
    "compute.globalOperations.wait",
    "compute.instances.aggregatedList",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.insert",
    "compute.instances.setTags",
    "compute.instances.start",
    "compute.instances.stop",
    "compute.networks.get",
    "compute.zoneOperations.get",
    "compute.zoneOperations.wait",
)
# Of large resources, what the fake has. Firewalls and tags, which are written, are kept whole.
KEPT: Final = {
    "AccessConfig": {"kind", "name", "natIP", "networkTier", "type"},
    "AttachedDisk": {
        "autoDelete",
        "boot",
        "deviceName",
        "diskSizeGb",
        "initializeParams",
        "kind",
        "mode",
        "source",
        "type",
    },
    "AttachedDiskInitializeParams": {
        "diskName",
        "diskSizeGb",
        "diskType",
        "labels",
        "sourceImage",
    },
    "Instance": {
        "disks",
        "id",
        "kind",
        "labelFingerprint",
        "labels",
        "machineType",
        "metadata",
        "name",
        "networkInterfaces",
        "resourcePolicies",
        "scheduling",
        "selfLink",
        "status",
        "statusMessage",
        "tags",
        "zone",
    },
    "NetworkInterface": {"accessConfigs", "kind", "name", "network", "networkIP", "subnetwork"},
    "Scheduling": {
        "automaticRestart",
        "instanceTerminationAction",
        "onHostMaintenance",
        "preemptible",
        "provisioningModel",
    },
    "Network": {"autoCreateSubnetworks", "id", "kind", "name", "selfLink"},
}
_WORDS: Final = ("description", "enumDescriptions", "enumDeprecated", "documentationLink")
TARGET: Final = Path(__file__).with_name("compute.v1.json")


def extract(document: dict[str, Any]) -> dict[str, Any]:
    """Return the methods that are used, and the schemas that they lead to, without their prose."""
    methods = {method: _method(document, method) for method in METHODS}
    schemas: dict[str, Any] = {}
    todo = _references(methods)
    while todo:
        name = todo.pop()
        if name not in schemas:
            schemas[name] = _schema(document, name)
            todo |= _references(schemas[name])
    return {
        "revision": document["revision"],
        "servicePath": document["servicePath"],
        "parameters": _without_words(document["parameters"]),
        "methods": methods,
        "schemas": dict(sorted(schemas.items())),
    }


def _method(document: dict[str, Any], name: str) -> Any:
    _, resource, verb = name.split(".")
    found = document["resources"][resource]["methods"][verb]
    kept = ("flatPath", "httpMethod", "parameters", "request", "response")
    return {key: _without_words(found[key]) for key in kept if key in found}


def _schema(document: dict[str, Any], name: str) -> Any:
    found = _without_words(document["schemas"][name])
    kept = KEPT.get(name, found.get("properties", {}))
    properties = found.get("properties", {}).items()
    return found | {"properties": {key: value for key, value in properties if key in kept}}


def _without_words(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_words(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_words(each)
        for key, each in value.items()
        if key not in _WORDS or not isinstance(each, str | list)
    }


def _references(value: Any) -> set[str]:
    if isinstance(value, list):
        return {name for each in value for name in _references(each)}
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own | {name for each in value.values() for name in _references(each)}


if __name__ == "__main__":
    found = extract(json.loads(Path(sys.argv[1]).read_text()))
    TARGET.write_text(json.dumps(found, indent=1) + "\n")
