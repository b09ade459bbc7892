"""One server of a fleet, with everything that is derived from what an operator writes."""

from typing import Final

from runtime.spec.base import Frozen, Port, Span
from runtime.spec.stage import NumBlocks

KINDS: Final = ("stage", "server")
"""What servers are called, with a number: those of a pipeline, those that choose their blocks."""


class Stage(Frozen):
    """A server with everything derived: where it is, what it serves, on which ports.

    Attributes:
        stage: its place in the pipeline; of a server that chooses its blocks, its number on its
            host, from 1: it has no place.
        span: the blocks that it holds; None if it chooses them.
        num_blocks: how many blocks it takes, if it chooses them.
    """

    stage: int
    host: str
    span: Span | None
    num_blocks: NumBlocks = None
    dht_port: Port
    rpc_port: Port
    public_dht_port: Port | None
    public_rpc_port: Port | None
    device: str

    @property
    def is_balanced(self) -> bool:
        """Whether it chooses its blocks by the swarm's need."""
        return self.span is None

    @property
    def kind(self) -> str:
        """What people call it, with its number behind it."""
        return KINDS[self.is_balanced]

    @property
    def title(self) -> str:
        """What tables call it: "stage 1", "server 1"."""
        return f"{self.kind} {self.stage}"

    @property
    def name(self) -> str:
        """What its files and its service on the host are called: "stage-1", "server-1"."""
        return f"{self.kind}-{self.stage}"

    @property
    def certificate_name(self) -> str:
        """What it is called in the whole fleet: "stage-1", "gpu-a-server-1"."""
        return f"{self.host}-{self.name}" if self.is_balanced else self.name
