"""What Azure refuses, as far as the fake of it knows."""

import ipaddress
import itertools
import re
from typing import Any, Final

from azure.mgmt.network import models

Json = dict[str, Any]

NSG: Final = "networkSecurityGroups"
ASG: Final = "applicationSecurityGroups"
NIC: Final = "networkInterfaces"

MODELS: Final[dict[str, type[Any]]] = {
    NSG: models.NetworkSecurityGroup,
    ASG: models.ApplicationSecurityGroup,
    NIC: models.NetworkInterface,
}
KINDS: Final = {kind.lower(): kind for kind in MODELS}
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?")
_PROTOCOLS: Final = {"*", "Tcp", "Udp", "Icmp", "Esp", "Ah"}
_TAGS: Final = {"*", "Internet", "VirtualNetwork", "AzureLoadBalancer"}


class Refusal(Exception):  # noqa: N818 - what Azure says, not what went wrong in the fake
    """An answer that is an error.

    Attributes:
        status: of the answer.
        code: Azure's name of the error.
    """

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code


def check_name(name: str) -> None:
    """Refuse what nothing can be called."""
    if not _NAME.fullmatch(name):
        raise Refusal(400, "InvalidResourceName", name)


def references(value: Any) -> set[str]:
    """Return the ids, in lower case, of the security groups that something refers to."""
    if isinstance(value, list):
        return {found for each in value for found in references(each)}
    if not isinstance(value, dict):
        return set()
    if set(value) == {"id"} and "securitygroups/" in value["id"].lower():
        return {value["id"].lower()}
    return {found for each in value.values() for found in references(each)}


def check_shape(model: type[Any], body: Json, where: str) -> None:
    """Refuse members that the library's model of a thing does not have."""
    fields = {found._rest_name: found for found in model({})._attr_to_rest_field.values()}
    for key, value in body.items():
        if key not in fields:
            raise Refusal(400, "InvalidRequestContent", f"could not find member '{key}' in {where}")
        inner = _model_in(fields[key])
        for each in value if isinstance(value, list) else [value]:
            if inner and isinstance(each, dict):
                check_shape(inner, each, f"{where}.{key}")


def _model_in(found: Any) -> type[Any] | None:
    """Return the model that a member has, or that the members of its list have."""
    kind = getattr(found._class_type, "args", (found._class_type,))[0]
    return kind if isinstance(kind, type) and hasattr(kind, "_is_model") else None


def check_rules(rules: list[Json]) -> None:
    if len(rules) > 1000:
        raise Refusal(400, "MaxSecurityRulesPerNetworkSecurityGroupLimitReached")
    names: set[str] = set()
    priorities: set[tuple[str, int]] = set()
    for rule in rules:
        properties = rule["properties"]
        where = (properties.get("direction", ""), properties.get("priority"))
        if rule["name"].lower() in names or where in priorities:
            raise Refusal(
                400, "SecurityRuleConflict", f"{rule['name']}: rules cannot have the same Priority"
            )
        names.add(rule["name"].lower())
        priorities.add(where)
        _check_rule(rule["name"], properties)


def _check_rule(name: str, properties: Json) -> None:
    priority = properties.get("priority")
    right = {
        "Priority": isinstance(priority, int) and 100 <= priority <= 4096,
        "Name": bool(_NAME.fullmatch(name)) and len(properties.get("description", "")) <= 140,
        "Protocol": properties.get("protocol") in _PROTOCOLS,
        "Access": properties.get("access") in {"Allow", "Deny"},
        "Direction": properties.get("direction") in {"Inbound", "Outbound"},
        "Port": all(_is_port(each) for each in _either(properties, "destinationPortRange")),
        "SourcePort": bool(_either(properties, "sourcePortRange")),
    }
    wrong = [each for each, is_right in right.items() if not is_right]
    if wrong:
        raise Refusal(400, f"SecurityRuleInvalid{wrong[0]}", name)
    groups = properties.get("sourceApplicationSecurityGroups") or []
    networks = _either(properties, "sourceAddressPrefix", "sourceAddressPrefixes")
    if bool(groups) == bool(networks) or len(groups) > 10:
        raise Refusal(400, "SecurityRuleInvalidSource", name)
    if not _either(properties, "destinationAddressPrefix", "destinationAddressPrefixes"):
        raise Refusal(400, "SecurityRuleMissingDestination", name)
    _check_networks(networks)


def _check_networks(networks: list[str]) -> None:
    tags = [each for each in networks if each in _TAGS]
    if tags and len(networks) > 1:
        raise Refusal(400, "SecurityRuleParameterContainsUnsupportedValue", tags[0])
    try:
        found = [ipaddress.ip_network(each) for each in networks if each not in _TAGS]
    except ValueError as error:
        raise Refusal(400, "SecurityRuleInvalidAddressPrefix", str(error)) from error
    if len({each.version for each in found}) > 1:
        raise Refusal(400, "SecurityRuleMixedAddressFamilies")
    for one, other in itertools.combinations(found, 2):
        if one.overlaps(other):
            raise Refusal(400, "OverlappingSubnetsNotPermittedInSecurityRule", f"{one} {other}")


def _either(properties: Json, one: str, many: str = "") -> list[str]:
    single = properties.get(one)
    return [*([single] if single else []), *(properties.get(many or f"{one}s") or [])]


def _is_port(text: str) -> bool:
    if text == "*":
        return True
    first, _, last = text.partition("-")
    return first.isdigit() and 0 <= int(first) <= int(last or first) <= 65535


def check_addresses(configurations: list[Json]) -> None:
    groups = {
        frozenset(references(each["properties"].get("applicationSecurityGroups") or []))
        for each in configurations
    }
    if len(groups) > 1:
        raise Refusal(400, "AllIpConfigurationsOnANicMustBelongToTheSameApplicationSecurityGroups")
