"""What one host should have, derived from the fleet: its stages, their configuration, its flows."""

import hashlib
import json
import posixpath
from collections.abc import Mapping
from pathlib import Path

from runtime.spec.base import Frozen
from runtime.spec.firewall import FirewallPlan, firewall_plans
from runtime.spec.fleet import Fleet
from runtime.spec.flows import Flow, flows
from runtime.spec.gpus.decision import CudaPlan, cuda_plan
from runtime.spec.links import binds_one, dht_port, link, multiaddr, require_made, rpc_port
from runtime.spec.monitoring import (
    ExporterPlan,
    exporter_directory,
    exporter_plans,
    scrape_targets,
)
from runtime.spec.network.plan import NetworkPlan, network_plans
from runtime.spec.paths import Paths, authority_path, paths
from runtime.spec.server import KINDS, Stage
from runtime.spec.share_plan import SharesPlan, share_around, share_plans
from runtime.spec.stage import AUTO, OF_OTHERS, Balancing, PeerLink, Serving, StageConfig


class Peer(Frozen):
    """What the operator's side knows of a server whose certificate it has issued."""

    peer_id: str
    certificate_sha256: str
    renewal_due: bool = False


class StagePlan(Frozen):
    """One server of a host.

    Attributes:
        name: "stage-1", "server-1"; file names and unit names are made of it.
        stage: its place in the pipeline; of a server that chooses its blocks, its number on its
            host.
        certificate_name: what the authority calls it: no other server of the fleet is called so.
        unit: the name of its service.
        config_path: where its configuration goes.
        config_text: the configuration, a `StageConfig` as JSON.
        identity_path: the directory of its key and certificates.
        certificate_sha256: of the certificate that the authority has issued for it, or empty.
        renewal_due: that certificate ends soon.
        digest: changes when the service must be restarted to notice a change.
        gpu: it may compute on a GPU, so its service must be able to open one.
        awaits_pipeline: it does its work only once every block of the model is served.
        summary: what it will be, in one line for people.
    """

    name: str
    stage: int
    certificate_name: str
    unit: str
    config_path: str
    config_text: str
    identity_path: str
    certificate_sha256: str
    renewal_due: bool
    digest: str
    gpu: bool
    awaits_pipeline: bool
    summary: str


class HostPlan(Frozen):
    """Everything one host should have.

    Attributes:
        authority: the directory of the fleet's certificate authority, on the operator's machine.
        unit_prefixes: what the names of the fleet's services are, but for a number at their end.
        survey: the directories in which to look for what of the fleet is on the host.
        survey_patterns: the names to look for there.
        scrape_targets: where a Prometheus server runs, what it reads by file_sd_configs; or empty.
    """

    fleet: str
    authority: str
    host: str
    scope: str
    supervisor: str
    unit_prefixes: tuple[str, ...]
    paths: Paths
    survey: tuple[str, ...]
    survey_patterns: tuple[str, ...]
    stages: tuple[StagePlan, ...]
    flows: tuple[Flow, ...]
    firewall: FirewallPlan
    exporters: tuple[ExporterPlan, ...]
    exporter_directory: str
    scrape_targets: str
    network: NetworkPlan
    shares: SharesPlan
    cuda: CudaPlan


def plans(fleet: Fleet, peers: Mapping[str, Peer]) -> dict[str, HostPlan]:
    """Return the plan of every host.

    Args:
        fleet: the fleet.
        peers: by the names in their certificates, the servers whose identity is already known; one
            that is missing here (it has never been deployed) is left out of the others' initial
            peers.

    Raises:
        SpecError: two hosts that must talk cannot reach each other, with its firewall nobody
            could log in to a host, or the instance of a host is not there.
    """
    require_made(fleet, fleet.hosts)
    everything = flows(fleet)
    firewalls = firewall_plans(fleet, everything)
    networks = network_plans(fleet)
    shares = share_plans(fleet)
    where = paths(fleet)
    stages = fleet.stages
    return {
        name: HostPlan(
            fleet=fleet.name,
            authority=authority_path(fleet),
            host=name,
            scope=fleet.install.scope,
            supervisor=host.supervisor,
            unit_prefixes=_unit_prefixes(fleet),
            paths=where,
            survey=_survey(fleet, where),
            survey_patterns=_survey_patterns(fleet, where),
            stages=tuple(
                _stage_plan(fleet, stage, _others(fleet, stage, stages, peers), own, where)
                for stage in stages
                if stage.host == name
                for own in (peers.get(stage.certificate_name),)
            ),
            flows=tuple(flow for flow in everything if flow.host == name),
            firewall=firewalls[name],
            exporters=exporter_plans(fleet, name),
            exporter_directory=exporter_directory(fleet.name),
            scrape_targets=_scrape_targets(fleet, name),
            network=networks[name],
            shares=shares[name],
            cuda=_cuda_plan(fleet, name, stages),
        )
        for name, host in fleet.hosts.items()
    }


def _scrape_targets(fleet: Fleet, host: str) -> str:
    if fleet.monitoring is None or host not in fleet.monitoring.hosts:
        return ""
    addresses = {other: link(fleet, host, other).address for other in fleet.hosts}
    return json.dumps(scrape_targets(fleet, addresses), indent=2) + "\n"


def _cuda_plan(fleet: Fleet, host: str, stages: tuple[Stage, ...]) -> CudaPlan:
    devices = (stage.device for stage in stages if stage.host == host and stage.device != "cpu")
    found = tuple(dict.fromkeys(devices))
    is_root = fleet.install.scope == "system"
    return cuda_plan(fleet.name, host, found, fleet.cuda_of(host), is_root)


def _unit_prefixes(fleet: Fleet) -> tuple[str, ...]:
    # With a number and nothing else behind it: the fleet `lab` is not the fleet `lab-2`. Both, so
    # that a fleet can be turned from one kind into the other.
    return tuple(f"{_unit(fleet)}{kind}-" for kind in KINDS)


def _unit(fleet: Fleet) -> str:
    return f"stagefleet-{fleet.name}-"


def _survey(fleet: Fleet, where: Paths) -> tuple[str, ...]:
    # The directories of configurations and keys are looked for too, so the ones around them count.
    around = (posixpath.dirname(where.config), posixpath.dirname(where.identity))
    exported = (exporter_directory(fleet.name),) if fleet.install.scope == "system" else ()
    looked = (*around, where.releases, f"{where.code}/venvs", where.systemd, *exported)
    return tuple(dict.fromkeys(looked))


def _survey_patterns(fleet: Fleet, where: Paths) -> tuple[str, ...]:
    directories = (posixpath.basename(where.config), posixpath.basename(where.identity))
    units = (f"{prefix}*.service" for prefix in _unit_prefixes(fleet))
    return (*directories, "*.json", "*.pem", ".complete", *units)


class _Others(Frozen):
    """What a server is told of the others: how it reaches those whose identity is known."""

    initial_peers: tuple[str, ...]
    links: tuple[PeerLink, ...]


def _others(
    fleet: Fleet, stage: Stage, stages: tuple[Stage, ...], peers: Mapping[str, Peer]
) -> _Others:
    # Every way is looked up, also to servers that are not known yet: a pair of hosts that cannot
    # reach each other is refused before either is touched.
    ways = [(other, link(fleet, stage.host, other.host)) for other in stages if other is not stage]
    known = [
        (other, peers[other.certificate_name], way)
        for other, way in ways
        if other.certificate_name in peers
    ]
    return _Others(
        initial_peers=tuple(
            multiaddr(way.address, dht_port(way, other), peer.peer_id) for other, peer, way in known
        ),
        links=tuple(
            PeerLink(
                peer_id=peer.peer_id,
                stage=other.stage,
                host=way.address,
                rpc_port=rpc_port(way, other),
                private=way.private,
            )
            for other, peer, way in known
        ),
    )


def _stage_plan(
    fleet: Fleet, stage: Stage, others: _Others, own: Peer | None, where: Paths
) -> StagePlan:
    identity_path = f"{where.identity}/{stage.name}"
    config = _stage_config(fleet, stage, others, identity_path)
    certificate = own.certificate_sha256 if own else ""
    # Where servers choose their blocks, hosts come and go, and nobody restarts for it: servers that
    # run read anew what they are told of the others (docs/decisions/0023-hosts-come-and-go.md).
    noticed = _text(config, exclude=OF_OTHERS if fleet.balanced else frozenset())
    return StagePlan(
        name=stage.name,
        stage=stage.stage,
        certificate_name=stage.certificate_name,
        unit=f"{_unit(fleet)}{stage.name}",
        config_path=f"{where.config}/{stage.name}.json",
        config_text=_text(config),
        identity_path=identity_path,
        certificate_sha256=certificate,
        renewal_due=own is not None and own.renewal_due,
        digest=hashlib.sha256(f"{noticed}{certificate}".encode()).hexdigest(),
        gpu=stage.device != "cpu",
        awaits_pipeline=bool(fleet.balanced) and stage.name == "stage-0",
        summary=_summary(stage),
    )


def _text(config: StageConfig, exclude: frozenset[str] = frozenset()) -> str:
    said = config.model_dump(mode="json", exclude_defaults=True, exclude=set(exclude))
    return json.dumps(said, indent=2) + "\n"


def _summary(stage: Stage) -> str:
    ports = [
        f"{service} {local}/tcp" + (f" (outside {public})" if public else "")
        for service, local, public in (
            ("dht", stage.dht_port, stage.public_dht_port),
            ("rpc", stage.rpc_port, stage.public_rpc_port),
        )
    ]
    return f"{stage.title}, {blocks_of(stage)}, {', '.join(ports)}, device {stage.device}"


def blocks_of(stage: Stage) -> str:
    """Return which blocks a server holds, for people."""
    if stage.span is not None:
        return f"blocks {stage.span}" if stage.span else "no block"
    count = (
        "as many blocks as it can hold"
        if stage.num_blocks == AUTO
        else f"{stage.num_blocks} blocks"
    )
    return f"{count} of its own choice"


def _stage_config(fleet: Fleet, stage: Stage, others: _Others, identity_path: str) -> StageConfig:
    host = fleet.hosts[stage.host]
    serving = fleet.serving.model_dump(include=set(Serving.model_fields))
    return StageConfig.model_validate(
        {
            **serving,
            **_share(fleet, stage),
            **_shared_model(fleet, stage),
            "fleet": fleet.name,
            "model": Path(fleet.model.path),
            "total_blocks": fleet.model.total_blocks,
            "stage": stage.stage,
            "device": stage.device,
            "bind": host.addresses[0] if binds_one(host) else "0.0.0.0",  # noqa: S104 - see binds_one
            "dht_port": stage.dht_port,
            "rpc_port": stage.rpc_port,
            # Of the others' configurations it is no part: they need not restart when it changes.
            **({"gateway_port": host.ports.gateway} if stage.name == "stage-0" else {}),
            "addresses": host.addresses,
            "public_ip": host.public_ip,
            "public_dht_port": stage.public_dht_port,
            "public_rpc_port": stage.public_rpc_port,
            "dht_initial_peers": others.initial_peers,
            "peers": others.links,
            "private_networks": tuple(
                network.cidr for network in fleet.networks if network.private
            ),
            "identity": Path(identity_path),
        }
    )


def _shared_model(fleet: Fleet, stage: Stage) -> dict[str, object]:
    """Return what a server is told of a model that is on another host's disk."""
    if share_around(fleet, stage.host, fleet.model.path) is None:
        return {}
    cache = Path(paths(fleet).cache) / "models" if fleet.model.local_cache else None
    return {"model_is_shared": True, "model_cache": cache}


def _share(fleet: Fleet, stage: Stage) -> dict[str, object]:
    """Return what says which blocks a server serves."""
    if stage.is_balanced:
        balance = (fleet.balance or Balancing()).model_dump()
        return {"use_load_balancing": True, **balance, "num_blocks": stage.num_blocks}
    # A stage 0 without blocks is one of a swarm in which others choose theirs.
    return {"splits": fleet.model.splits} if stage.span else {"use_load_balancing": True}
