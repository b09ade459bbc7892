"""What a server says of itself and demands of its peers, derived from its configuration."""

from runtime import __version__
from runtime.checks.config import Checked
from runtime.swarm.membership import Membership
from runtime.wire.connection import Terms
from runtime.wire.messages import Hello
from runtime.wire.tls import Tls

_WIDEST_BYTES = 4
"""Of the number formats that hidden states travel in: float32."""


def terms(checked: Checked, membership: Membership) -> Terms:
    """Return the terms of every connection of this server.

    Raises:
        IdentityError: a key or certificate is missing or does not fit.
    """
    config, manifest = checked.config, checked.manifest
    return Terms(
        me=Hello(
            software=__version__,
            fleet=config.fleet,
            model_digest=manifest.digest,
            peer_id=membership.peer_id,
            stage=config.stage,
        ),
        tls=Tls(checked.identity),
        private_networks=config.private_networks,
        # The largest step is a whole prompt of every sequence of the largest batch.
        max_body_bytes=config.max_batch * checked.max_length * manifest.hidden_size * _WIDEST_BYTES,
        greeting_seconds=config.connect_timeout_seconds,
        send_seconds=config.step_timeout_seconds,
    )
