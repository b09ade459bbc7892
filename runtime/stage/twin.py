"""One identity, one server: whoever comes second does not start."""

import contextlib

from runtime.errors import IdentityError, PeerLostError, WireError
from runtime.swarm.endpoint import Endpoint
from runtime.swarm.records import ServerInfo
from runtime.wire.connection import Terms, dial

_DIAL_SECONDS = 3.0


async def refuse_twin(servers: tuple[ServerInfo, ...], own: ServerInfo, terms: Terms) -> None:
    """Refuse to start where another process with this identity serves already.

    A record at this server's own addresses is its own, of an earlier run: its ports are free. One
    at other addresses may be as well, after a change of them; so it is dialled.

    Args:
        servers: the records of the swarm, before this server has announced itself.
        own: what this server is about to announce.
        terms: of this server's connections.

    Raises:
        IdentityError: it answers.
    """
    for server in servers:
        if server.peer_id != own.peer_id:
            continue
        for address in server.addresses:
            if address not in own.addresses:
                private = terms.is_private(address.host)
                endpoint = Endpoint(address.host, address.rpc_port, private)
                if await _answers(endpoint, own.peer_id, terms):
                    raise IdentityError(
                        f"another process with this server's identity, {own.peer_id}, serves at "
                        f"{endpoint}",
                        hint="stop it, or make an identity of its own for this server: "
                        "docs/how-to/by-hand.md",
                    )


async def _answers(endpoint: Endpoint, peer_id: str, terms: Terms) -> bool:
    """Return whether a server with this peer id is there, whatever it serves."""
    with contextlib.suppress(PeerLostError, IdentityError):
        try:
            connection = await dial(endpoint, peer_id, terms, _DIAL_SECONDS)
        except WireError:
            # It has proven who it is, and is of another release or model.
            return True
        connection.close()
        return True
    return False
