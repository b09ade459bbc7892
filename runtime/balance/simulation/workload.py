"""What happens to a simulated swarm from outside, the same for every policy."""

from dataclasses import dataclass

import numpy as np

from runtime.balance.coordinate import Coordinate

_SHARES_OF_THE_MODEL = (0.25, 0.375, 0.5)
_SPREAD_OF_THROUGHPUT = 0.5
_SKEW_SECONDS = 3
_DELAY_SECONDS = 2


@dataclass(frozen=True)
class Life:
    """One server: when it comes and goes, and what it can do.

    Attributes:
        peer_id: who it is.
        arrives: when, in seconds.
        dies: when, in seconds.
        num_blocks: how many blocks it holds.
        throughput: decode steps per second through so many blocks.
        skew: how far its clock is off, in seconds.
        coordinate: where it is in the network, if that matters.
    """

    peer_id: str
    arrives: float
    dies: float
    num_blocks: int
    throughput: float
    skew: float
    coordinate: Coordinate | None = None


@dataclass(frozen=True)
class Slowdown:
    """A server gets slower, or faster, by a factor at a time in seconds."""

    peer_id: str
    at: float
    factor: float


@dataclass(frozen=True)
class Partition:
    """For some seconds, half of the servers do not hear of what the other half says."""

    start: float
    end: float


@dataclass(frozen=True)
class Workload:
    """Everything that happens.

    Attributes:
        total_blocks: of the model.
        seconds: how long it is watched.
        lives: the servers, in order of arrival.
        load_seconds: how long a server loads a span.
        delay_seconds: within this time, what a server says reaches each other one.
        slowdowns: of servers.
        partitions: of the swarm.
        client: where sessions come from, if that matters.
        places_are_known: servers say where they are.
    """

    total_blocks: int
    seconds: float
    lives: tuple[Life, ...]
    load_seconds: float
    delay_seconds: float = _DELAY_SECONDS
    slowdowns: tuple[Slowdown, ...] = ()
    partitions: tuple[Partition, ...] = ()
    client: Coordinate | None = None
    places_are_known: bool = True


def churn(
    servers: int,
    total_blocks: int,
    lifetime: float,
    load_seconds: float,
    seconds: float,
    seed: int,
) -> Workload:
    """Return servers that come and go so that about as many are there at any time.

    Lifetimes are exponential, arrivals a Poisson process; a server holds a quarter, three eighths
    or half of the model, and throughputs are log-normal (sigma 0.5).

    Args:
        servers: how many there are at the start and on average.
        total_blocks: of the model.
        lifetime: of a server, mean seconds; infinite: nobody comes or goes.
        load_seconds: how long loading a span takes.
        seconds: how long to watch.
        seed: of everything that is random.
    """
    draw = np.random.default_rng(seed)
    arrivals = [0.0] * servers
    now = draw.exponential(lifetime / servers) if np.isfinite(lifetime) else np.inf
    while now < seconds:
        arrivals.append(now)
        now += draw.exponential(lifetime / servers)
    lives = []
    for number, arrives in enumerate(arrivals):
        share = draw.choice(_SHARES_OF_THE_MODEL)
        lives.append(
            Life(
                peer_id=f"server-{number:05d}",
                arrives=arrives,
                dies=arrives + (draw.exponential(lifetime) if np.isfinite(lifetime) else np.inf),
                num_blocks=max(1, round(total_blocks * share)),
                throughput=float(draw.lognormal(0, _SPREAD_OF_THROUGHPUT)),
                skew=_skew(draw),
            )
        )
    return Workload(total_blocks, seconds, tuple(lives), load_seconds)


def start_together(
    servers: int,
    total_blocks: int,
    num_blocks: int,
    seed: int,
    delay_seconds: float = _DELAY_SECONDS,
) -> Workload:
    """Return equal servers that start within the same second, and stay.

    Args:
        servers: how many.
        total_blocks: of the model.
        num_blocks: that each holds.
        seed: of everything that is random.
        delay_seconds: of records, at most.
    """
    draw = np.random.default_rng(seed)
    lives = tuple(
        Life(
            peer_id=f"server-{number:05d}",
            arrives=float(draw.uniform(0, 1)),
            dies=np.inf,
            num_blocks=num_blocks,
            throughput=1,
            skew=_skew(draw),
        )
        for number in range(servers)
    )
    return Workload(total_blocks, 120, lives, load_seconds=10, delay_seconds=delay_seconds)


def _skew(draw: np.random.Generator) -> float:
    return float(draw.uniform(-_SKEW_SECONDS, _SKEW_SECONDS))
