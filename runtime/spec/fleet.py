"""What an operator writes: a fleet's model, networks and hosts, checked as one thing.

The fleet itself is the inventory variable `fleet`, each machine the host variable `fleet_host`
(see `inventory.py`). Every rule that a fleet must keep is checked here, so that a mistake is named
before the first host is touched.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from runtime.spec.access import Access, access_problems
from runtime.spec.balance import balance_problems, num_blocks_of, servers_of
from runtime.spec.base import Cidr, Frozen, Name, Span
from runtime.spec.clouds import AzureCloud, Cloud, Instance
from runtime.spec.doctor import Doctor
from runtime.spec.gpus.wanted import Cuda, cuda_problems
from runtime.spec.gpus.wanted import merged as merged_cuda
from runtime.spec.host import BALANCED, Host, HostServer, HostStage
from runtime.spec.instances import cloud_problems, merged
from runtime.spec.monitoring import (
    Monitoring,
    exporter_port,
    exporters,
    monitoring_problems,
)
from runtime.spec.network.declared import Buffers, Network, link_problems
from runtime.spec.server import Stage
from runtime.spec.services import DHT, GATEWAY, PROOF, RPC, SMB, SSH, stage_port
from runtime.spec.shares import Share, share_problems
from runtime.spec.stage import (
    Balancing,
    NumBlocks,
    Serving,
    Splits,
    check_splits,
    stage_spans,
)


class Model(Frozen):
    """The model and how its blocks are split over the stages."""

    path: str = Field(
        pattern=r"^(/|~/)", description="the imported model's directory on every host of a stage"
    )
    total_blocks: int = Field(ge=1, description="how many blocks the model has")
    splits: Splits = Field(
        default=(),
        description="the first block of stages 1, 2, …; empty: one stage holds all or, beside "
        f"servers of the group '{BALANCED}', none",
    )
    local_cache: bool = Field(
        default=True,
        description="servers that have the model from a share (fleet.shares) keep what they read "
        "of it on their own disk, and load it from there",
    )

    @model_validator(mode="after")
    def _splits_fit(self) -> Self:
        check_splits(self.splits, self.total_blocks)
        return self


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
    balance: Balancing | None = Field(
        default=None,
        description=f"how the servers of hosts in the group '{BALANCED}' choose their blocks",
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
    shares: tuple[Share, ...] | None = Field(
        default=None,
        description="directories that hosts share; leave an empty list when the last one is gone, "
        "so that what was made for it is removed",
    )
    clouds: dict[Name, Cloud] = Field(
        default={}, description="the clouds that hosts are in, by a name of your own"
    )
    firewall: Firewall = Field(default=Firewall(), description="the hosts' own firewalls")
    monitoring: Monitoring | None = Field(
        default=None, description="exporters on every host, and who takes their metrics"
    )
    doctor: Doctor = Field(default=Doctor(), description="what the doctor looks for besides")
    buffers: Buffers = Field(
        default="computed",
        description="TCP settings of hosts with links; computed: from speed and round trip; "
        "guides: their fixed 128 MB; none: left as they are",
    )
    cuda: Cuda = Field(default=Cuda(), description="drivers and CUDA of hosts with NVIDIA's GPUs")

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
    """One typed, strict reading of a whole inventory: the site and its hosts by name.

    Attributes:
        balanced: the hosts whose servers choose their blocks: those of the group of that name.
    """

    hosts: dict[str, Host]
    balanced: tuple[str, ...] = ()

    @property
    def manages_firewalls(self) -> bool:
        """Whether hosts' own firewalls are told what the fleet needs."""
        if self.firewall.manage is None:
            return self.install.scope == "system"
        return self.firewall.manage

    def cuda_of(self, host: str) -> Cuda:
        """Return which driver and CUDA a host has, if it has a GPU."""
        return merged_cuda(self.cuda, self.hosts[host].cuda)

    def instance(self, host: str) -> Instance | None:
        """Return what is asked for of a host's instance, or None where somebody else makes it."""
        found = self.hosts[host]
        cloud = self.clouds[found.cloud] if found.cloud is not None else None
        if found.instance is None or cloud is None or isinstance(cloud, AzureCloud):
            return None
        return merged(cloud, found.instance)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every server: stage 0, the other stages, and those that choose their blocks, by host."""
        spans = self.spans
        fixed = (
            self._stage(name, entry, entry.stage, spans[entry.stage], None)
            for name, host in self.hosts.items()
            for entry in host.stages
        )
        balanced = (
            self._stage(name, entry, number, None, num_blocks_of(entry, self.balance))
            for name in sorted(self.balanced)
            for number, entry in enumerate(servers_of(self.hosts[name]), start=1)
        )
        return (*sorted(fixed, key=lambda stage: stage.stage), *balanced)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The blocks of every stage, also of those that are on no host, stage 0 first."""
        if self.balanced and not self.model.splits:
            # It only turns tokens into hidden states.
            return (Span(start=0, end=0),)
        return stage_spans(self.model.splits, self.model.total_blocks)

    def _stage(
        self,
        host: str,
        entry: HostStage | HostServer,
        number: int,
        span: Span | None,
        num_blocks: NumBlocks,
    ) -> Stage:
        return Stage(
            stage=number,
            host=host,
            span=span,
            num_blocks=num_blocks,
            dht_port=entry.dht_port or stage_port(DHT, number),
            rpc_port=entry.rpc_port or stage_port(RPC, number),
            public_dht_port=entry.public_dht_port,
            public_rpc_port=entry.public_rpc_port,
            device=entry.device or self.serving.device,
        )

    @model_validator(mode="after")
    def _is_buildable(self) -> Self:
        # Ports can only be compared once every stage has its place.
        problems = _stage_problems(self) or [
            *_network_problems(self),
            *cloud_problems(
                {name: (host.instance, host.cloud) for name, host in self.hosts.items()},
                self.clouds,
            ),
            *_firewall_problems(self),
            *monitoring_problems(self.monitoring, self.hosts, self.install.scope),
            *link_problems(
                self.hosts, self.networks, self.operators, self.install.scope == "system"
            ),
            *cuda_problems(self.cuda, {name: host.cuda for name, host in self.hosts.items()}),
            *_port_problems(self),
            *access_problems(self.access, self.operators, self.hosts),
            *_share_problems(self),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _stage_problems(fleet: Fleet) -> list[str]:
    """Return what is wrong with the placement: a stage on no host, on two hosts, or unknown."""
    spans = fleet.spans
    wanted = range(len(spans))
    placed: dict[int, list[str]] = {}
    for name, host in fleet.hosts.items():
        for entry in host.stages:
            placed.setdefault(entry.stage, []).append(name)
    # Servers that choose their blocks take those of the others.
    needed = wanted[:1] if fleet.balanced else wanted
    problems = [
        f"stage {stage} is on no host: add {stage} to some host's fleet_host.stages"
        + (" (stage 0 is the client side: it takes prompts)" if fleet.balanced else "")
        for stage in needed
        if stage not in placed
    ]
    for stage, hosts in sorted(placed.items()):
        if stage not in wanted:
            problems.append(_unknown_stage(fleet, hosts[0], stage))
        elif len(hosts) > 1:
            problems.append(f"stage {stage} is on {len(hosts)} hosts: {', '.join(sorted(hosts))}")
    members = {name: fleet.hosts[name] for name in sorted(fleet.balanced)}
    others = {name: host for name, host in fleet.hosts.items() if name not in members}
    fixed = tuple(spans[stage] for stage in placed if stage in wanted)
    return [
        *problems,
        *balance_problems(members, others, fleet.balance, fixed, fleet.model.total_blocks),
    ]


def _unknown_stage(fleet: Fleet, host: str, stage: int) -> str:
    if fleet.balanced and not fleet.model.splits:
        return (
            f"host {host} has stage {stage}, but servers of the group '{BALANCED}' have no "
            f"numbers: take {stage} out of its fleet_host.stages, or say in model.splits which "
            "blocks it keeps"
        )
    return (
        f"host {host} has stage {stage}, but model.splits {list(fleet.model.splits)} make stages "
        f"0 to {len(fleet.spans) - 1} only"
    )


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
            and any(entry.public_dht_port or entry.public_rpc_port for entry in _entries(host))
        ):
            problems.append(
                f"host {name} maps public ports but has no public_ip: add fleet_host.public_ip"
            )
    return problems


def _entries(host: Host) -> Iterator[HostStage | HostServer]:
    yield from host.stages
    yield from host.servers or ()


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


def _share_problems(fleet: Fleet) -> Iterator[str]:
    """Yield what is wrong with what hosts share."""
    shares = fleet.shares or ()
    if shares and fleet.install.scope == "user":
        yield "shares need root: set fleet.install.scope to system, or take them out"
    roots = {name: host.share_root for name, host in fleet.hosts.items()}
    people = any(row.service == SMB.name for row in fleet.access)
    yield from share_problems(shares, roots, people)


def _port_problems(fleet: Fleet) -> list[str]:
    """Return ports that two services of one host, or two services behind one address, share."""
    local: dict[tuple[str, int], list[str]] = {}
    public: dict[tuple[str, int], list[str]] = {}
    for name, host in fleet.hosts.items():
        local.setdefault((name, host.ports.ssh), []).append(SSH.name)
        for exporter in exporters(fleet, name):
            port = exporter_port(fleet, name, exporter)
            local.setdefault((name, port), []).append(exporter.service.name)
        if host.links:
            local.setdefault((name, host.ports.proof), []).append(PROOF.name)
        for protocol in {share.protocol for share in fleet.shares or () if share.host == name}:
            local.setdefault((name, getattr(host.ports, protocol)), []).append(protocol)
    for stage in fleet.stages:
        host = fleet.hosts[stage.host]
        if stage.stage == 0:
            local.setdefault((stage.host, host.ports.gateway), []).append(GATEWAY.name)
        for service, port, mapped in (
            (DHT, stage.dht_port, stage.public_dht_port),
            (RPC, stage.rpc_port, stage.public_rpc_port),
        ):
            what = f"{stage.title} {service.name}"
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
