"""Is the server of this configuration doing its work? Asked as any peer would ask.

| state | healthy | why |
|---|---|---|
| online | yes | it takes sessions |
| moving | yes | it has served, and goes where it is needed more; others serve what it leaves |
| reserving, joining | no | it has not served yet |

A server that has no blocks yet listens to nobody: nothing answers, which is not healthy either.
Whether the swarm as a whole serves every block, stage 0 knows.
"""

import asyncio
import ipaddress
from typing import Final

from runtime.checks.config import Checked
from runtime.errors import PeerLostError, SessionError
from runtime.gateway.remote import health
from runtime.spec.services import LOOPBACK
from runtime.stage.terms import terms
from runtime.swarm.endpoint import Endpoint
from runtime.swarm.membership import Membership
from runtime.wire.connection import dial
from runtime.wire.messages import Ask, Status

MOVING: Final = "moving"
"""What a server says of itself that changes its blocks for others."""
MOVING_STATES: Final = frozenset({"joining", "draining"})
"""What its record says meanwhile."""
_HEALTHY: Final = frozenset({"online", MOVING})


async def status_of(checked: Checked, seconds: float) -> Status:
    """Return what the server of this configuration, on this host, says of itself.

    Raises:
        PeerLostError: nothing answers within `seconds`.
        SessionError: what answers is not ready.
        IdentityError: another server answers on its port.
        VersionError: the running server is of another release or model.
    """
    config = checked.config
    me = Membership(checked.identity, config.fleet)
    ours = terms(checked, me)
    bind = ipaddress.ip_address(config.bind)
    host = ("::1" if bind.version == 6 else "127.0.0.1") if bind.is_unspecified else str(bind)
    endpoint = Endpoint(host, config.listen_rpc_port, private=ours.is_private(host))
    connection = await dial(endpoint, me.peer_id, ours, seconds)
    try:
        async with asyncio.timeout(seconds):
            await connection.send(Ask())
            answer, _ = await connection.receive()
    except TimeoutError:
        raise PeerLostError(f"{endpoint} gave no status within {seconds:g} s") from None
    finally:
        connection.close()
    if not isinstance(answer, Status):
        raise SessionError(f"{endpoint} answered '{type(answer).__name__}' instead of a status")
    if answer.state not in _HEALTHY:
        raise SessionError(f"the server is {answer.state}")
    return answer


def require_pipeline(checked: Checked, seconds: float) -> None:
    """See that every block of the model is served, as this host's stage 0 sees it.

    Raises:
        PeerLostError: its gateway cannot be reached.
        SessionError: which blocks nobody serves.
    """
    found = health(f"http://{LOOPBACK}:{checked.config.gateway_port}", seconds)
    if found["pipeline"] != "complete":
        raise SessionError(f"the pipeline is {found['pipeline']}: {found.get('reason', '')}")
