"""The catalogue: every listening socket of the system, once.

A port, a protocol, who runs the service and who may reach it stand here and nowhere else. Flows,
plans, stage configurations and the generated port table are derived from these rows.
"""

from enum import StrEnum
from typing import Literal

from runtime.spec.base import Frozen, Port


class Place(StrEnum):
    """On which hosts a service runs."""

    EVERY_HOST = "every host"
    EVERY_STAGE = "every stage"
    FIRST_STAGE = "stage 0"
    MONITORED_HOST = "every host, with `fleet.monitoring`"
    MONITORED_GPU = "hosts with GPUs, with `fleet.monitoring`"
    LINKED = "hosts with links"
    NFS_STORE = "hosts that share by nfs"
    SMB_STORE = "hosts that share by smb"


class Peers(StrEnum):
    """Who may reach a service."""

    OPERATORS = "operators"
    SWARM = "every other stage"
    UPSTREAM = (
        "the stage before it and stage 0; at stage 0, the last stage; where servers choose their "
        "blocks, every other one"
    )
    READERS = "the hosts that its shares name as readers"
    SAME_HOST = "the host itself"
    MONITORING = "the hosts and networks of `fleet.monitoring`"
    NEIGHBOURS = "the hosts on its links, while they are measured"


class Service(Frozen):
    """One listening socket.

    Attributes:
        name: the word used in inventories, plans and logs.
        protocol: the transport.
        port: the default; for a service of every stage the port of stage 1, from which
            `stage_port` derives the others.
        runs_on: the hosts that run it.
        reached_from: the only ones who may connect to it.
        control: machines are controlled by it, so that no inventory can open it to the world.
    """

    name: str
    protocol: Literal["tcp", "udp"] = "tcp"
    port: Port
    runs_on: Place
    reached_from: Peers
    control: bool = False


SSH = Service(
    name="ssh", port=22, runs_on=Place.EVERY_HOST, reached_from=Peers.OPERATORS, control=True
)
DHT = Service(name="dht", port=8002, runs_on=Place.EVERY_STAGE, reached_from=Peers.SWARM)
RPC = Service(name="rpc", port=8003, runs_on=Place.EVERY_STAGE, reached_from=Peers.UPSTREAM)
GATEWAY = Service(
    name="gateway", port=8080, runs_on=Place.FIRST_STAGE, reached_from=Peers.SAME_HOST
)
NODE_EXPORTER = Service(
    name="node_exporter",
    port=9100,
    runs_on=Place.MONITORED_HOST,
    reached_from=Peers.MONITORING,
)
GPU_EXPORTER = Service(
    name="gpu_exporter",
    port=9400,
    runs_on=Place.MONITORED_GPU,
    reached_from=Peers.MONITORING,
)
# Where iperf3 listens unless it is told otherwise.
PROOF = Service(name="proof", port=5201, runs_on=Place.LINKED, reached_from=Peers.NEIGHBOURS)
NFS = Service(name="nfs", port=2049, runs_on=Place.NFS_STORE, reached_from=Peers.READERS)
SMB = Service(name="smb", port=445, runs_on=Place.SMB_STORE, reached_from=Peers.READERS)

LOOPBACK = "127.0.0.1"
"""Where services listen that are reached from `Peers.SAME_HOST` only."""

CATALOGUE = (SSH, DHT, RPC, GATEWAY, NFS, SMB, NODE_EXPORTER, GPU_EXPORTER, PROOF)

# The order in which the stages take their pairs of ports. It is the order of the guides: the three
# server stages first, the client stage 0 after them; fleets with more stages continue behind.
_PAIR_OF_STAGE = {1: 0, 2: 1, 3: 2, 0: 3}


def stage_port(service: Service, stage: int) -> int:
    """Return the default port of a stage's `dht` or `rpc` service.

    The n-th server of a host that chooses its blocks takes those of stage n.

    Raises:
        ValueError: the service does not run on every stage, or the stage is negative.
    """
    if service.runs_on is not Place.EVERY_STAGE or stage < 0:
        raise ValueError(f"{service.name} has no port for stage {stage}")
    pair = _PAIR_OF_STAGE.get(stage, stage)
    return service.port + 2 * pair
