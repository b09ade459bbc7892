"""Where the plan says that each other server is nearest, as of the last deployment."""

from collections.abc import Iterable
from pathlib import Path

import structlog
from pydantic import ValidationError

from runtime.spec.stage import PeerLink, StageConfig
from runtime.swarm.endpoint import Endpoint

log = structlog.get_logger()


class Links:
    """The links of a configuration, read anew once its file is another one.

    Where servers choose their blocks, a host that joins restarts nobody: the others learn from
    their files how they reach it (docs/decisions/0023-hosts-come-and-go.md).
    """

    def __init__(self, peers: Iterable[PeerLink], path: Path | None) -> None:
        """Start with these links; `path` is the file that they come from, if they come from one."""
        self._links = _endpoints(peers)
        self._path = path
        self._read = self._written()

    def to(self, peer_id: str) -> Endpoint | None:
        """Return where the plan says that a server is dialled, or None if it does not know it."""
        written = self._written()
        if self._path is not None and written is not None and written != self._read:
            self._read = written
            try:
                config = StageConfig.model_validate_json(self._path.read_text(encoding="utf-8"))
            except (OSError, ValidationError) as error:
                # Of another release, whose restart is about to come; what is known still holds.
                log.warning("the links could not be read anew", reason=str(error))
            else:
                self._links = _endpoints(config.peers)
        return self._links.get(peer_id)

    def _written(self) -> tuple[int, int] | None:
        """Return what tells one writing of the file from the next, or None without a file."""
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        # Ansible replaces a file as a whole.
        return None if found is None else (found.st_ino, found.st_mtime_ns)


def _endpoints(peers: Iterable[PeerLink]) -> dict[str, Endpoint]:
    return {peer.peer_id: Endpoint(peer.host, peer.rpc_port, peer.private) for peer in peers}
