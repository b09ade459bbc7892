"""Instances as Google's compute API takes and gives them, as records of this package and back."""

from typing import Final

from google.cloud import compute_v1

from cloud.gcp.firewalls import Holder
from cloud.instances import Life, Seen
from cloud.names import ALL, HOST_MARK, OWNER_MARK, PRODUCT, label_of, marks_of_host
from runtime.spec.clouds import Instance

_LIVES: Final = {
    "PROVISIONING": Life.STARTING,
    "STAGING": Life.STARTING,
    "PENDING": Life.STARTING,
    "REPAIRING": Life.STARTING,
    "RUNNING": Life.RUNNING,
    "PENDING_STOP": Life.STOPPING,
    "STOPPING": Life.STOPPING,
    "SUSPENDING": Life.STOPPING,
    "STOPPED": Life.STOPPED,
    "SUSPENDED": Life.STOPPED,
    # Google's word for an instance that is stopped: what is deleted is not shown at all.
    "TERMINATED": Life.STOPPED,
    "DEPROVISIONING": Life.ENDING,
}
_IMAGE: Final = f"{PRODUCT}-image"
_DISK: Final = "pd-balanced"


def wanted_machine(
    holder: Holder, host: str, wanted: Instance, project: str
) -> compute_v1.Instance:
    """Return an instance as the API takes it: in the fleet's groups from its first moment."""
    zone = wanted.zone or ""
    region = zone.rpartition("-")[0]
    labels = marks_of_host(holder.fleet, holder.owner, label_of(host))
    said = {
        "ssh-keys": wanted.key or "",
        # Who may log in elsewhere in the project is nobody here.
        "block-project-ssh-keys": "TRUE",
        # A label may not be what a host is called, and an instance does not tell its image.
        HOST_MARK: host,
        _IMAGE: wanted.image or "",
    }
    disk = compute_v1.AttachedDiskInitializeParams(
        source_image=wanted.image,
        disk_size_gb=wanted.disk,
        disk_type=f"zones/{zone}/diskTypes/{_DISK}",
        labels=labels,
    )
    interface = compute_v1.NetworkInterface(
        network=f"projects/{project}/global/networks/{holder.network}"
    )
    if wanted.subnet:
        interface.subnetwork = f"projects/{project}/regions/{region}/subnetworks/{wanted.subnet}"
    if wanted.public_address is not False:
        outside = compute_v1.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")
        interface.access_configs = [outside]
    policies = f"projects/{project}/regions/{region}/resourcePolicies"
    return compute_v1.Instance(
        name=holder.tag(host),
        machine_type=f"zones/{zone}/machineTypes/{wanted.type}",
        labels=labels,
        tags=compute_v1.Tags(items=sorted(holder.tag(group) for group in (host, ALL))),
        metadata=compute_v1.Metadata(
            items=[compute_v1.Items(key=key, value=value) for key, value in said.items()]
        ),
        disks=[compute_v1.AttachedDisk(boot=True, auto_delete=True, initialize_params=disk)],
        network_interfaces=[interface],
        # With a GPU, it cannot be moved while it runs.
        scheduling=compute_v1.Scheduling(on_host_maintenance="TERMINATE", automatic_restart=True),
        resource_policies=[f"{policies}/{wanted.placement}"] if wanted.placement else [],
    )


def seen_of(found: compute_v1.Instance) -> Seen:
    """Return an instance as it is here."""
    said = {each.key: each.value for each in found.metadata.items}
    label = found.labels[HOST_MARK]
    name = said.get(HOST_MARK, "")
    public = [
        each.nat_i_p
        for card in found.network_interfaces
        for each in card.access_configs
        if each.nat_i_p
    ]
    disks = [(each.source.rpartition("/")[2], each.auto_delete) for each in found.disks]
    return Seen(
        id=found.name,
        # Somebody may have changed the label: then that is what counts.
        host=name if name and label_of(name) == label else label,
        owner=found.labels.get(OWNER_MARK, ""),
        life=_LIVES[found.status],
        type=found.machine_type.rpartition("/")[2],
        image=said.get(_IMAGE, ""),
        addresses=tuple(card.network_i_p for card in found.network_interfaces if card.network_i_p),
        public_ip=public[0] if public else None,
        disks=tuple(name for name, goes in disks if goes),
        kept=tuple(name for name, goes in disks if not goes),
        zone=found.zone.rpartition("/")[2],
        reason=found.status_message,
    )
