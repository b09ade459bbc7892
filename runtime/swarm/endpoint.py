"""An address at which a server is dialled."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Endpoint:
    """Where a peer is dialled; `private` links use plain TCP."""

    host: str
    port: int
    private: bool = False

    def __str__(self) -> str:
        """Return `host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
