"""What an operator writes of one machine: its addresses, and the servers it runs."""

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from runtime.spec.base import Address, Frozen, Name, Port
from runtime.spec.clouds import Instance
from runtime.spec.gpus.wanted import HostCuda
from runtime.spec.network.declared import HostLink
from runtime.spec.services import GATEWAY, GPU_EXPORTER, NFS, NODE_EXPORTER, PROOF, SMB, SSH
from runtime.spec.shares import DEFAULT_ROOT, Directory
from runtime.spec.stage import NumBlocks

BALANCED: Final = "balanced"
"""The group of the inventory whose hosts run servers that choose their blocks."""


class _Listening(Frozen):
    """What a server of a host may have otherwise than by default."""

    dht_port: Port | None = Field(default=None, description="port of discovery")
    rpc_port: Port | None = Field(default=None, description="port of the data plane")
    public_dht_port: Port | None = Field(
        default=None, description="the port of public_ip that is mapped to dht_port"
    )
    public_rpc_port: Port | None = Field(
        default=None, description="the port of public_ip that is mapped to rpc_port"
    )
    device: str | None = Field(default=None, description="overrides the fleet's serving.device")


class HostStage(_Listening):
    """One stage on a host; a bare number in the inventory means all defaults."""

    stage: int = Field(ge=0, description="its place in the pipeline")


class HostServer(_Listening):
    """One server on a host of the group of those that choose their blocks."""

    num_blocks: NumBlocks = Field(
        default=None, description="overrides the fleet's balance.num_blocks"
    )


class HostPorts(Frozen):
    """Ports of a host's services that no stage owns."""

    ssh: Port = Field(default=SSH.port, description="where sshd listens; default: ansible_port")
    gateway: Port = Field(default=GATEWAY.port, description="stage 0's HTTP API, on loopback")
    node_exporter: Port = Field(
        default=NODE_EXPORTER.port, description="the machine's metrics, with fleet.monitoring"
    )
    gpu_exporter: Port = Field(
        default=GPU_EXPORTER.port, description="its GPUs' metrics, with fleet.monitoring"
    )
    proof: Port = Field(
        default=PROOF.port, description="where a host with links receives while they are measured"
    )
    nfs: Port = Field(default=NFS.port, description="where shares are exported by NFS")
    smb: Port = Field(default=SMB.port, description="where shares are served by SMB")


class Host(Frozen):
    """One machine."""

    addresses: tuple[Address, ...] = Field(
        default=(),
        description="its own addresses, one for each network it shares; default: ansible_host",
    )
    bind: Literal["addresses", "all"] = Field(
        default="addresses",
        description="listen on its one address, or on all interfaces; with a public_ip, with "
        "several addresses or with none written, it is always all",
    )
    public_ip: Address | None = Field(
        default=None, description="the address that reaches it from outside its networks"
    )
    links: tuple[HostLink, ...] = Field(
        default=(), description="its interfaces for data, whose address and MTU the fleet keeps"
    )
    stages: tuple[
        Annotated[
            HostStage,
            BeforeValidator(
                lambda value: {"stage": value} if isinstance(value, int) else value,
                json_schema_input_type=int | HostStage,
            ),
        ],
        ...,
    ] = Field(default=(), description="the stages it runs; a number alone means all defaults")
    servers: tuple[HostServer, ...] | None = Field(
        default=None,
        min_length=1,
        description=f"in the group '{BALANCED}': its servers, such as one for each GPU; default: "
        "one with all defaults",
    )
    ports: HostPorts = Field(
        default=HostPorts(), description="ports of services that no stage owns"
    )
    cloud: Name | None = Field(
        default=None, description="the one of fleet.clouds whose rules guard it"
    )
    instance: Instance | None = Field(
        default=None,
        description="its instance is made by ./fleet cloud instances, with the keys of "
        "fleet.clouds.<name>.instance; {}: as that says",
    )
    share_root: Directory = Field(
        default=DEFAULT_ROOT, description="everything that it shares lies below this directory"
    )
    supervisor: Literal["auto", "systemd", "supervisord"] = Field(
        default="auto",
        description="what starts and watches services; auto: systemd where it runs and the scope "
        "is system, supervisord otherwise",
    )
    firewall: Literal["auto", "nftables", "ufw", "firewalld", "none"] = Field(
        default="auto",
        description="which firewall of the host is told; auto: ufw or firewalld where one of them "
        "runs, nftables otherwise; none: stagefleet keeps no rules there",
    )
    cuda: HostCuda | None = Field(
        default=None, description="what differs here from fleet.cuda, such as for an older card"
    )

    @property
    def is_unmade(self) -> bool:
        """Whether its addresses are not known because its instance is not there or does not run."""
        return self.instance is not None and not self.addresses and self.public_ip is None
