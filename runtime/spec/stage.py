"""What one server is told: the class behind the JSON file of a stage and behind its flags.

Ansible writes a `StageConfig` as JSON, the server reads the same class, and the command line's
flags are made from its fields; there is no second list to keep in step.
"""

import ipaddress
import itertools
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from runtime.spec.base import Address, Cidr, Frozen, Ip, Name, Port, Span
from runtime.spec.services import DHT, GATEWAY, RPC, stage_port

AUTO: Final = "auto"
PERIODS_TO_EXPIRY: Final = 3
"""A record is forgotten if its server has not renewed it for so many periods."""


def _numbers(value: object) -> object:
    if isinstance(value, str):
        return tuple(int(part) for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


Splits = Annotated[
    tuple[int, ...], BeforeValidator(_numbers, json_schema_input_type=list[int] | str)
]
"""Block numbers, as a list or, on a command line, separated by commas."""


class Serving(Frozen):
    """How a server computes and what it allows; the same defaults for a fleet and for one stage."""

    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$",
        description="where blocks are computed: auto, cpu, cuda or cuda:N",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="the number format of weights and cache; auto: as stored"
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads for computing; 0: torch's own choice"
    )
    max_batch: int = Field(
        default=8, ge=1, le=256, description="sequences that one session may generate together"
    )
    max_length: int = Field(
        default=0,
        ge=0,
        description="tokens of one sequence, prompt included; 0: what the model was trained for",
    )
    kv_cache_mib: int = Field(
        default=1024, ge=1, description="memory for all sessions' keys and values, in MiB"
    )
    session_idle_seconds: float = Field(
        default=600, gt=0, description="a session without a step for this long is closed"
    )
    step_timeout_seconds: float = Field(
        default=120, gt=0, description="how long stage 0 waits for one step to come back"
    )
    connect_timeout_seconds: float = Field(
        default=10, gt=0, description="how long a connection to a neighbour may take"
    )
    model_timeout_seconds: float = Field(
        default=60,
        gt=0,
        description="how long reading a model of another host may stand still before it fails",
    )
    announce_period_seconds: float = Field(
        default=10,
        gt=0,
        le=300,
        description="how often a server renews its record, which outlives "
        f"{PERIODS_TO_EXPIRY} periods",
    )


def _blocks(value: object) -> object:
    # Checked here, and not by the union of types, which would find fault twice.
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    is_count = isinstance(number, int) and not isinstance(number, bool) and number >= 1
    if number is None or number == AUTO or is_count:
        return number
    raise ValueError(f"takes a number of blocks, 1 or more, or {AUTO}")


NumBlocks = Annotated[
    Annotated[int, Field(ge=1)] | Literal["auto"] | None, BeforeValidator(_blocks)
]
"""How many blocks a server takes: a number, or as many as its memory holds."""


class Balancing(Frozen):
    """How servers choose their blocks; the same defaults for a fleet and for one server."""

    num_blocks: NumBlocks = Field(
        default=None,
        description="balanced mode: how many blocks a server takes; auto: what its memory holds",
    )
    replica_floor: int = Field(
        default=1,
        ge=1,
        le=8,
        description="balanced mode: so many copies every block gets before speed counts, where "
        "servers suffice; the same for all servers of a swarm",
    )
    balance_quality: float = Field(
        default=0.75, ge=0, description="balanced mode: rebalance below this share of the optimum"
    )
    mean_balance_check_period: float = Field(
        default=60, gt=0, description="balanced mode: mean seconds between two checks"
    )


class PeerLink(Frozen):
    """How this server reaches another one, chosen in the plan for this pair of hosts."""

    peer_id: str = Field(min_length=1)
    stage: int = Field(ge=0)
    host: Address
    rpc_port: Port
    private: bool = Field(
        default=False, description="the link is declared private: plain TCP instead of TLS"
    )


class StageConfig(Balancing, Serving):
    """Everything one server needs to know."""

    fleet: Name = Field(
        default="fleet", description="the fleet's name; peers of another are refused"
    )
    model: Path = Field(description="an imported model directory (stagefleet model import)")
    model_is_shared: bool = Field(
        default=False,
        description="the model is on another host's disk: every file is compared with the "
        "manifest before it is used",
    )
    model_cache: Path | None = Field(
        default=None,
        description="a directory of this host that keeps what was read of a shared model",
    )
    splits: Splits = Field(
        default=(),
        description="the first block of stages 1, 2, …: 8,16,24 gives stage 0 blocks [0, 8)",
    )
    stage: int = Field(
        ge=0, description="this server's place in the pipeline; 0 is the client side"
    )

    use_load_balancing: bool = Field(
        default=False, description="choose blocks by the swarm's need instead of by splits"
    )
    total_blocks: int | None = Field(
        default=None, ge=1, description="how many blocks the model has; checked against the model"
    )

    bind: Ip = Field(default="127.0.0.1", description="the address to listen on")
    dht_port: Port | None = Field(
        default=None, description="port of discovery (default: the catalogue's for this stage)"
    )
    rpc_port: Port | None = Field(
        default=None, description="port of the data plane (default: the catalogue's for this stage)"
    )
    gateway_port: Port = Field(
        default=GATEWAY.port, description="stage 0: port of the HTTP API, on loopback only"
    )
    addresses: tuple[Address, ...] = Field(
        default=(), description="addresses at which peers on the same networks find this server"
    )
    public_ip: Address | None = Field(
        default=None, description="the address at which peers outside find this server"
    )
    public_dht_port: Port | None = Field(
        default=None, description="the public port mapped to dht_port (default: the same)"
    )
    public_rpc_port: Port | None = Field(
        default=None, description="the public port mapped to rpc_port (default: the same)"
    )
    dht_initial_peers: tuple[str, ...] = Field(
        default=(), description="multiaddrs of servers to join the swarm through"
    )
    peers: tuple[PeerLink, ...] = Field(
        default=(), description="the nearest address of each other server, as the plan chose it"
    )
    private_networks: tuple[Cidr, ...] = Field(
        default=(), description="networks whose peers may connect without TLS"
    )
    identity: Path | None = Field(
        default=None, description="directory with this server's key and certificates"
    )

    prompt: str | None = Field(
        default=None, description="stage 0: generate from this prompt once, print it and end"
    )
    max_new_tokens: int = Field(
        default=64, ge=1, description="stage 0 with a prompt: how many tokens to generate at most"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.use_load_balancing:
            if self.stage > 0 and self.num_blocks is None:
                raise ValueError("use_load_balancing needs num_blocks: how many blocks to serve")
        else:
            check_splits(self.splits, self.total_blocks)
            if self.stage > len(self.splits):
                raise ValueError(
                    f"stage {self.stage} does not exist: splits {list(self.splits)} make stages "
                    f"0 to {len(self.splits)}"
                )
        most = self.total_blocks
        if isinstance(self.num_blocks, int) and most is not None and self.num_blocks > most:
            raise ValueError(
                f"num_blocks {self.num_blocks} is more than the model's {self.total_blocks} blocks"
            )
        if self.prompt is not None and self.stage != 0:
            raise ValueError("prompt belongs to stage 0, the client side")
        if self.public_ip is None and (self.public_dht_port or self.public_rpc_port):
            raise ValueError("public_dht_port and public_rpc_port need public_ip")
        ports = [self.listen_dht_port, self.listen_rpc_port]
        if self.stage == 0:
            ports.append(self.gateway_port)
        if len(set(ports)) < len(ports):
            raise ValueError(f"two services of this server share a port: {ports}")
        if not self.announced_addresses:
            raise ValueError(
                f"listening on {self.bind}, but peers are told no address: give public_ip, "
                "addresses, or bind to one address"
            )
        return self

    @property
    def record_seconds(self) -> float:
        """How long a record outlives the last word of its server."""
        return PERIODS_TO_EXPIRY * self.announce_period_seconds

    @property
    def listen_dht_port(self) -> int:
        """The local port of discovery."""
        return self.dht_port or stage_port(DHT, self.stage)

    @property
    def listen_rpc_port(self) -> int:
        """The local port of the data plane."""
        return self.rpc_port or stage_port(RPC, self.stage)

    @property
    def announced_addresses(self) -> tuple[tuple[str, int, int], ...]:
        """What peers are told: (host, dht port, rpc port), the public one last."""
        local = self.addresses
        if not local and not ipaddress.ip_address(self.bind).is_unspecified:
            local = (self.bind,)
        found = [(host, self.listen_dht_port, self.listen_rpc_port) for host in local]
        if self.public_ip is not None:
            found.append(
                (
                    self.public_ip,
                    self.public_dht_port or self.listen_dht_port,
                    self.public_rpc_port or self.listen_rpc_port,
                )
            )
        return tuple(found)

    def span(self, total_blocks: int) -> Span | None:
        """Return the blocks this stage serves, or None if it chooses them by the swarm's need.

        In balanced mode stage 0 only embeds: it has no block.

        Raises:
            ValueError: the splits do not fit a model of `total_blocks` blocks.
        """
        if self.use_load_balancing:
            return None if self.stage > 0 else Span(start=0, end=0)
        check_splits(self.splits, total_blocks)
        return stage_spans(self.splits, total_blocks)[self.stage]


OF_OTHERS: Final = frozenset({"peers", "dht_initial_peers"})
"""The fields of a `StageConfig` that say where the others are."""


def check_splits(splits: tuple[int, ...], total_blocks: int | None) -> None:
    """Refuse splits that overlap, leave a gap or reach past the model.

    Raises:
        ValueError: which stage is wrong, and why.
    """
    before = 0
    for stage, first in enumerate(splits, start=1):
        if first == before:
            raise ValueError(
                f"splits {list(splits)}: no block is left for stage {stage - 1}, because stage "
                f"{stage} starts at block {first} too"
            )
        if first < before:
            raise ValueError(
                f"splits {list(splits)}: stages {stage - 1} and {stage} overlap: stage {stage} "
                f"would start at block {first}, before block {before}"
            )
        before = first
    if total_blocks is not None and before >= total_blocks:
        raise ValueError(
            f"splits {list(splits)}: stage {len(splits)} would start at block {before}, but the "
            f"model's blocks are 0 to {total_blocks - 1}"
        )


def stage_spans(splits: tuple[int, ...], total_blocks: int) -> tuple[Span, ...]:
    """Return the span of each stage, stage 0 first; together they tile the model."""
    bounds = (0, *splits, total_blocks)
    return tuple(Span(start=start, end=end) for start, end in itertools.pairwise(bounds))
