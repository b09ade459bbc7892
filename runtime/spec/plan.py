"""What one host should have, derived from the fleet: its stages, their configuration, its flows."""

import hashlib
import json
import posixpath
from collections.abc import Mapping
from pathlib import Path

from runtime.spec.base import Frozen
from runtime.spec.firewall import FirewallPlan, firewall_plans
from runtime.spec.fleet import Fleet, Stage
from runtime.spec.flows import Flow, flows
from runtime.spec.links import binds_one, dht_port, link, multiaddr, require_made, rpc_port
from runtime.spec.paths import Paths, authority_path, paths
from runtime.spec.stage import PeerLink, Serving, StageConfig


class Peer(Frozen):
    """What the operator's side knows of a server whose certificate it has issued."""

    peer_id: str
    certificate_sha256: str
    renewal_due: bool = False


class StagePlan(Frozen):
    """One stage of a host.

    Attributes:
        name: "stage-1"; file names and unit names are made of it.
        unit: the name of its service.
        config_path: where its configuration goes.
        config_text: the configuration, a `StageConfig` as JSON.
        identity_path: the directory of its key and certificates.
        certificate_sha256: of the certificate that the authority has issued for it, or empty.
        renewal_due: that certificate ends soon.
        digest: changes when the service must be restarted to notice a change.
        gpu: it may compute on a GPU, so its service must be able to open one.
        summary: what it will be, in one line for people.
    """

    name: str
    stage: int
    unit: str
    config_path: str
    config_text: str
    identity_path: str
    certificate_sha256: str
    renewal_due: bool
    digest: str
    gpu: bool
    summary: str


class HostPlan(Frozen):
    """Everything one host should have.

    Attributes:
        authority: the directory of the fleet's certificate authority, on the operator's machine.
        unit_prefix: what the names of the fleet's services are, but for the stage's number.
        survey: the directories in which to look for what of the fleet is on the host.
        survey_patterns: the names to look for there.
    """

    fleet: str
    authority: str
    host: str
    scope: str
    supervisor: str
    unit_prefix: str
    paths: Paths
    survey: tuple[str, ...]
    survey_patterns: tuple[str, ...]
    stages: tuple[StagePlan, ...]
    flows: tuple[Flow, ...]
    firewall: FirewallPlan


def plans(fleet: Fleet, peers: Mapping[int, Peer]) -> dict[str, HostPlan]:
    """Return the plan of every host.

    Args:
        fleet: the fleet.
        peers: by stage, the servers whose identity is already known; a stage that is missing here
            (it has never been deployed) is left out of the others' initial peers.

    Raises:
        SpecError: two hosts that must talk cannot reach each other, with its firewall nobody
            could log in to a host, or the instance of a host is not there.
    """
    require_made(fleet, fleet.hosts)
    everything = flows(fleet)
    firewalls = firewall_plans(fleet, everything)
    where = paths(fleet)
    return {
        name: HostPlan(
            fleet=fleet.name,
            authority=authority_path(fleet),
            host=name,
            scope=fleet.install.scope,
            supervisor=host.supervisor,
            unit_prefix=_unit_prefix(fleet),
            paths=where,
            survey=_survey(where),
            survey_patterns=_survey_patterns(fleet, where),
            stages=tuple(
                _stage_plan(fleet, stage, peers, where)
                for stage in fleet.stages
                if stage.host == name
            ),
            flows=tuple(flow for flow in everything if flow.host == name),
            firewall=firewalls[name],
        )
        for name, host in fleet.hosts.items()
    }


_STAGE = "stage-"


def stage_name(stage: int) -> str:
    """Return the name that a stage's files, unit and certificate carry."""
    return f"{_STAGE}{stage}"


def _unit_prefix(fleet: Fleet) -> str:
    # With a number and nothing else behind it: the fleet `lab` is not the fleet `lab-2`.
    return f"stagefleet-{fleet.name}-{_STAGE}"


def _survey(where: Paths) -> tuple[str, ...]:
    # The directories of configurations and keys are looked for too, so the ones around them count.
    around = (posixpath.dirname(where.config), posixpath.dirname(where.identity))
    return tuple(dict.fromkeys((*around, where.releases, f"{where.code}/venvs", where.systemd)))


def _survey_patterns(fleet: Fleet, where: Paths) -> tuple[str, ...]:
    directories = (posixpath.basename(where.config), posixpath.basename(where.identity))
    files = ("*.json", "*.pem", ".complete", f"{_unit_prefix(fleet)}*.service")
    return (*directories, *files)


def _stage_plan(fleet: Fleet, stage: Stage, peers: Mapping[int, Peer], where: Paths) -> StagePlan:
    name = stage_name(stage.stage)
    identity_path = f"{where.identity}/{name}"
    config = _stage_config(fleet, stage, peers, identity_path)
    text = json.dumps(config.model_dump(mode="json", exclude_defaults=True), indent=2) + "\n"
    own = peers.get(stage.stage)
    certificate = own.certificate_sha256 if own else ""
    return StagePlan(
        name=name,
        stage=stage.stage,
        unit=f"{_unit_prefix(fleet)}{stage.stage}",
        config_path=f"{where.config}/{name}.json",
        config_text=text,
        identity_path=identity_path,
        certificate_sha256=certificate,
        renewal_due=own is not None and own.renewal_due,
        digest=hashlib.sha256(f"{text}{certificate}".encode()).hexdigest(),
        gpu=stage.device != "cpu",
        summary=_summary(stage),
    )


def _summary(stage: Stage) -> str:
    ports = [
        f"{service} {local}/tcp" + (f" (outside {public})" if public else "")
        for service, local, public in (
            ("dht", stage.dht_port, stage.public_dht_port),
            ("rpc", stage.rpc_port, stage.public_rpc_port),
        )
    ]
    return f"stage {stage.stage}, blocks {stage.span}, {', '.join(ports)}, device {stage.device}"


def _stage_config(
    fleet: Fleet, stage: Stage, peers: Mapping[int, Peer], identity_path: str
) -> StageConfig:
    host = fleet.hosts[stage.host]
    # Every way is looked up, also to servers that are not known yet: a pair of hosts that cannot
    # reach each other is refused before either is touched.
    ways = [
        (other, link(fleet, stage.host, other.host)) for other in fleet.stages if other != stage
    ]
    others = [(other, peers[other.stage], way) for other, way in ways if other.stage in peers]
    serving = fleet.serving.model_dump(include=set(Serving.model_fields))
    return StageConfig.model_validate(
        {
            **serving,
            "fleet": fleet.name,
            "model": Path(fleet.model.path),
            "splits": fleet.model.splits,
            "total_blocks": fleet.model.total_blocks,
            "stage": stage.stage,
            "device": stage.device,
            "bind": host.addresses[0] if binds_one(host) else "0.0.0.0",  # noqa: S104 - see binds_one
            "dht_port": stage.dht_port,
            "rpc_port": stage.rpc_port,
            # Of the others' configurations it is no part: they need not restart when it changes.
            **({"gateway_port": host.ports.gateway} if stage.stage == 0 else {}),
            "addresses": host.addresses,
            "public_ip": host.public_ip,
            "public_dht_port": stage.public_dht_port,
            "public_rpc_port": stage.public_rpc_port,
            "dht_initial_peers": tuple(
                multiaddr(way.address, dht_port(way, other), peer.peer_id)
                for other, peer, way in others
            ),
            "peers": tuple(
                PeerLink(
                    peer_id=peer.peer_id,
                    stage=other.stage,
                    host=way.address,
                    rpc_port=rpc_port(way, other),
                    private=way.private,
                )
                for other, peer, way in others
            ),
            "private_networks": tuple(
                network.cidr for network in fleet.networks if network.private
            ),
            "identity": Path(identity_path),
        }
    )
