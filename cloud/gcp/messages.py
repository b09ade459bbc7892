"""What Google's compute API takes and gives, as records of this package and back."""

from google.cloud import compute_v1

from cloud.gcp.errors import RefusedError
from cloud.gcp.firewalls import Firewall, Traffic
from cloud.gcp.state import Instance
from cloud.names import HOST_MARK, OWNER_MARK


def message_of(firewall: Firewall, network: str) -> compute_v1.Firewall:
    """Return a firewall as the API takes it, every field of it set.

    Raises:
        RefusedError: it has no source.
    """
    if not firewall.source_tags and not firewall.source_ranges:
        # Without any source, it would let in everybody.
        raise RefusedError(f"the firewall {firewall.name} would be open to everybody")
    log = compute_v1.FirewallLogConfig(enable=firewall.logs is not None)
    if firewall.logs:
        log.metadata = firewall.logs
    return compute_v1.Firewall(
        name=firewall.name,
        description=firewall.description,
        network=network,
        priority=firewall.priority,
        direction=firewall.direction,
        disabled=firewall.disabled,
        target_tags=sorted(firewall.targets),
        source_tags=sorted(firewall.source_tags),
        source_ranges=sorted(firewall.source_ranges),
        allowed=[
            compute_v1.Allowed(I_p_protocol=each.protocol, ports=each.ports)
            for each in firewall.allowed
        ],
        denied=[
            compute_v1.Denied(I_p_protocol=each.protocol, ports=each.ports)
            for each in firewall.denied
        ],
        log_config=log,
    )


def firewall_of(found: compute_v1.Firewall) -> Firewall:
    """Return a firewall as it is here."""
    return Firewall(
        name=found.name,
        description=found.description,
        priority=found.priority,
        direction=found.direction,
        disabled=found.disabled,
        targets=frozenset(found.target_tags),
        accounts=frozenset(found.target_service_accounts),
        source_tags=frozenset(found.source_tags),
        source_ranges=frozenset(found.source_ranges),
        source_accounts=frozenset(found.source_service_accounts),
        destinations=frozenset(found.destination_ranges),
        allowed=frozenset(_traffic(each) for each in found.allowed),
        denied=frozenset(_traffic(each) for each in found.denied),
        logs=found.log_config.metadata if found.log_config.enable else None,
    )


def _traffic(found: compute_v1.Allowed | compute_v1.Denied) -> Traffic:
    return Traffic(protocol=found.I_p_protocol, ports=tuple(found.ports))


def instance_of(found: compute_v1.Instance) -> Instance:
    """Return an instance as it is here."""
    return Instance(
        name=found.name,
        zone=found.zone.rpartition("/")[2],
        host=found.labels[HOST_MARK],
        tags=frozenset(found.tags.items),
        fingerprint=found.tags.fingerprint,
        owner=found.labels.get(OWNER_MARK, ""),
    )
