"""What an operator writes: a fleet's model, networks and hosts, checked as one thing.

The fleet itself is the inventory variable `fleet`, each machine the host variable `fleet_host`
(see `inventory.py`). Every rule that a fleet must keep is checked here, so that a mistake is named
before the first host is touched.
"""

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from runtime.spec.access import Access, access_problems
from runtime.spec.base import Address, Cidr, Frozen, Name, Port, Span
from runtime.spec.clouds import AzureCloud, Cloud, Instance
from runtime.spec.instances import instance_problems, merged
from runtime.spec.services import DHT, GATEWAY, RPC, SSH, stage_port
from runtime.spec.stage import Serving, Splits, check_splits, stage_spans


class Model(Frozen):
    """The model and how its blocks are split over the stages."""

    path: str = Field(
        pattern=r"^(/|~/)", description="the imported model's directory on every host of a stage"
    )
    total_blocks: int = Field(ge=1, description="how many blocks the model has")
    splits: Splits = Field(
        default=(), description="the first block of stages 1, 2, …; empty: one stage holds all"
    )

    @model_validator(mode="after")
    def _splits_fit(self) -> Self:
        check_splits(self.splits, self.total_blocks)
        return self


class Network(Frozen):
    """A network that several hosts share; they use it to reach each other."""

    name: Name = Field(description="what plans and logs call it")
    cidr: Cidr = Field(description="its addresses, such as 10.0.0.0/24")
    private: bool = Field(
        default=False,
        description="nobody else is on it (a direct cable, WireGuard): plain TCP is allowed",
    )


class Install(Frozen):
    """Where the fleet lives on its hosts."""

    scope: Literal["system", "user"] = Field(
        default="system",
        description="system: root installs it for a user of its own; "
        "user: everything lives in the account that Ansible connects to, without root",
    )
    root: str | None = Field(
        default=None,
        # What supervisord's files and the addresses of sockets can carry.
        pattern=r"^~?(/[A-Za-z0-9_.@+=,-]+)+$",
        description="the directory that holds everything, without spaces; "
        "default: the usual places of the scope",
    )


class Firewall(Frozen):
    """Whether hosts' own firewalls are stagefleet's business."""

    manage: bool | None = Field(
        default=None,
        description="keep on every host the rules that let in what the fleet needs, and nothing "
        "else; default: true where install.scope is system",
    )


class HostStage(Frozen):
    """One stage on a host; a bare number in the inventory means all defaults."""

    stage: int = Field(ge=0, description="its place in the pipeline")
    dht_port: Port | None = Field(default=None, description="port of discovery")
    rpc_port: Port | None = Field(default=None, description="port of the data plane")
    public_dht_port: Port | None = Field(
        default=None, description="the port of public_ip that is mapped to dht_port"
    )
    public_rpc_port: Port | None = Field(
        default=None, description="the port of public_ip that is mapped to rpc_port"
    )
    device: str | None = Field(default=None, description="overrides the fleet's serving.device")


class HostPorts(Frozen):
    """Ports of a host's services that no stage owns."""

    ssh: Port = Field(default=SSH.port, description="where sshd listens; default: ansible_port")
    gateway: Port = Field(default=GATEWAY.port, description="stage 0's HTTP API, on loopback")


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

    @property
    def is_unmade(self) -> bool:
        """Whether its addresses are not known because its instance is not there or does not run."""
        return self.instance is not None and not self.addresses and self.public_ip is None


class Stage(Frozen):
    """A stage with everything derived: where it is, what it serves, on which ports."""

    stage: int
    host: str
    span: Span
    dht_port: Port
    rpc_port: Port
    public_dht_port: Port | None
    public_rpc_port: Port | None
    device: str


# systemd hides these from hardened services, and an account of a service's own has no home.
_HOMES = ("~/", "/home/", "/root/")


class Site(Frozen):
    """The inventory variable `fleet`: everything that is not about one machine."""

    name: Name = Field(description="part of the names of services, directories and certificates")
    authority: str | None = Field(
        default=None,
        pattern=r"^(/|~/)",
        description="directory on the operator's machine with the fleet's certificate authority; "
        "default: ~/.config/stagefleet/<name>",
    )
    model: Model = Field(description="the model and its splits")
    serving: Serving = Field(
        default=Serving(), description="how servers compute and what they allow"
    )
    install: Install = Field(default=Install(), description="where the fleet lives on its hosts")
    operators: tuple[Cidr, ...] = Field(
        default=(), description="networks from which people administer the hosts"
    )
    networks: tuple[Network, ...] = Field(
        default=(), description="networks that several hosts share, the preferred one first"
    )
    access: tuple[Access, ...] = Field(
        default=(), description="networks that may reach a service besides its peers"
    )
    clouds: dict[Name, Cloud] = Field(
        default={}, description="the clouds that hosts are in, by a name of your own"
    )
    firewall: Firewall = Field(default=Firewall(), description="the hosts' own firewalls")

    @model_validator(mode="after")
    def _services_reach_their_files(self) -> Self:
        if self.install.scope == "system":
            for key, path in (("install.root", self.install.root), ("model.path", self.model.path)):
                if path is not None and path.startswith(_HOMES):
                    raise ValueError(
                        f"{key} {path} is in a home directory, where services of scope system "
                        "cannot look; use a place such as /srv, or install.scope: user"
                    )
        return self


class Fleet(Site):
    """One typed, strict reading of a whole inventory: the site and its hosts by name."""

    hosts: dict[str, Host]

    @property
    def manages_firewalls(self) -> bool:
        """Whether hosts' own firewalls are told what the fleet needs."""
        if self.firewall.manage is None:
            return self.install.scope == "system"
        return self.firewall.manage

    def instance(self, host: str) -> Instance | None:
        """Return what is asked for of a host's instance, or None where somebody else makes it."""
        found = self.hosts[host]
        cloud = self.clouds[found.cloud] if found.cloud is not None else None
        if found.instance is None or cloud is None or isinstance(cloud, AzureCloud):
            return None
        return merged(cloud, found.instance)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage, stage 0 first."""
        spans = stage_spans(self.model.splits, self.model.total_blocks)
        found = (
            Stage(
                stage=entry.stage,
                host=name,
                span=spans[entry.stage],
                dht_port=entry.dht_port or stage_port(DHT, entry.stage),
                rpc_port=entry.rpc_port or stage_port(RPC, entry.stage),
                public_dht_port=entry.public_dht_port,
                public_rpc_port=entry.public_rpc_port,
                device=entry.device or self.serving.device,
            )
            for name, host in self.hosts.items()
            for entry in host.stages
        )
        return tuple(sorted(found, key=lambda stage: stage.stage))

    @model_validator(mode="after")
    def _is_buildable(self) -> Self:
        # Ports can only be compared once every stage has its place.
        problems = _stage_problems(self) or [
            *_network_problems(self),
            *_cloud_problems(self),
            *_firewall_problems(self),
            *_port_problems(self),
            *access_problems(self.access, self.operators, self.hosts),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _stage_problems(fleet: Fleet) -> list[str]:
    """Return what is wrong with the placement: a stage on no host, on two hosts, or unknown."""
    wanted = range(len(fleet.model.splits) + 1)
    placed: dict[int, list[str]] = {}
    for name, host in fleet.hosts.items():
        for entry in host.stages:
            placed.setdefault(entry.stage, []).append(name)
    problems = [
        f"stage {stage} is on no host: add {stage} to some host's fleet_host.stages"
        for stage in wanted
        if stage not in placed
    ]
    for stage, hosts in sorted(placed.items()):
        if stage not in wanted:
            problems.append(
                f"host {hosts[0]} has stage {stage}, but model.splits "
                f"{list(fleet.model.splits)} make stages 0 to {wanted[-1]} only"
            )
        elif len(hosts) > 1:
            problems.append(f"stage {stage} is on {len(hosts)} hosts: {', '.join(sorted(hosts))}")
    return problems


def _network_problems(fleet: Fleet) -> list[str]:
    """Return networks with one name, and mapped ports without a public address."""
    names = Counter(network.name for network in fleet.networks)
    problems = [
        f"{count} networks are called '{name}'" for name, count in names.items() if count > 1
    ]
    for name, host in fleet.hosts.items():
        if (
            host.public_ip is None
            and not host.is_unmade
            and any(entry.public_dht_port or entry.public_rpc_port for entry in host.stages)
        ):
            problems.append(
                f"host {name} maps public ports but has no public_ip: add fleet_host.public_ip"
            )
    return problems


def _cloud_problems(fleet: Fleet) -> list[str]:
    """Return clouds that are described twice, and hosts that are in one which nobody describes."""
    places: dict[str, list[str]] = {}
    for name, cloud in fleet.clouds.items():
        place = cloud.model_dump_json(exclude={"endpoint", "instance"})
        places.setdefault(place, []).append(name)
    # Each would remove what is made for the other.
    twice = [
        f"fleet.clouds {' and '.join(names)} are the same place: keep one of them"
        for names in places.values()
        if len(names) > 1
    ]
    asked = {name: (host.instance, host.cloud) for name, host in fleet.hosts.items()}
    return [
        *twice,
        *(
            f"host {name} is in the cloud '{host.cloud}', which is not one of fleet.clouds "
            f"({', '.join(fleet.clouds) or 'there are none'})"
            for name, host in fleet.hosts.items()
            if host.cloud is not None and host.cloud not in fleet.clouds
        ),
        *instance_problems(asked, fleet.clouds),
    ]


def _firewall_problems(fleet: Fleet) -> list[str]:
    """Return firewalls that are to be told something by nobody, or by somebody without root."""
    if fleet.manages_firewalls and fleet.install.scope == "user":
        return [
            "firewall.manage is true, but install.scope is user: only root can tell a host's "
            "firewall anything"
        ]
    return [
        f"host {name} asks for the firewall {host.firewall}, but stagefleet manages none here: set "
        "fleet.firewall.manage to true (install.scope system), or leave the host's key out"
        for name, host in fleet.hosts.items()
        if not fleet.manages_firewalls and host.firewall not in {"auto", "none"}
    ]


def _port_problems(fleet: Fleet) -> list[str]:
    """Return ports that two services of one host, or two services behind one address, share."""
    local: dict[tuple[str, int], list[str]] = {}
    public: dict[tuple[str, int], list[str]] = {}
    for name, host in fleet.hosts.items():
        local.setdefault((name, host.ports.ssh), []).append(SSH.name)
    for stage in fleet.stages:
        host = fleet.hosts[stage.host]
        if stage.stage == 0:
            local.setdefault((stage.host, host.ports.gateway), []).append(GATEWAY.name)
        for service, port, mapped in (
            (DHT, stage.dht_port, stage.public_dht_port),
            (RPC, stage.rpc_port, stage.public_rpc_port),
        ):
            what = f"stage {stage.stage} {service.name}"
            local.setdefault((stage.host, port), []).append(what)
            if host.public_ip is not None:
                public.setdefault((host.public_ip, mapped or port), []).append(what)
    return [
        *(
            f"host {name}: port {port} is taken by {' and by '.join(users)}"
            for (name, port), users in local.items()
            if len(users) > 1
        ),
        *(
            f"public address {address}: port {port} is mapped to {' and to '.join(users)}"
            for (address, port), users in public.items()
            if len(users) > 1
        ),
    ]
