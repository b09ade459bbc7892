"""The exceptions of stagefleet, each with a hint that says what to do next.

StagefleetError          runtime.spec.errors: an error that an operator can act on
├── SpecError            runtime.spec.errors: the inventory does not describe a fleet
├── ConfigError          a server's configuration cannot be used on this host
├── ModelError           a model directory is missing, damaged or not supported
├── IdentityError        a key or certificate is missing, expired or of another fleet
├── WireError            what a peer sent is not what the protocol allows
│   └── VersionError     a peer speaks another protocol version or serves another model
├── SessionError         a session cannot be opened or go on
│   ├── ServerFullError  a server has no room left for the session's keys and values
│   ├── MovedError       a server does not have the blocks that a route wants of it
│   └── NoAnswerError    servers said nothing in time
├── RouteError           no chain of servers covers the model's blocks
├── PeerLostError        a peer could not be reached or went away
├── RequestError         a prompt or a sampling option cannot be served
└── DeployError          a playbook, a service or a tool of the operator's side failed
"""

from runtime.spec.errors import SpecError, StagefleetError

__all__ = [
    "ConfigError",
    "DeployError",
    "IdentityError",
    "ModelError",
    "MovedError",
    "NoAnswerError",
    "PeerLostError",
    "RequestError",
    "RouteError",
    "ServerFullError",
    "SessionError",
    "SpecError",
    "StagefleetError",
    "VersionError",
    "WireError",
]


class ConfigError(StagefleetError):
    """A server's configuration cannot be used on this host."""


class ModelError(StagefleetError):
    """A model directory is missing, damaged or not supported."""


class IdentityError(StagefleetError):
    """A key or certificate is missing, expired or of another fleet."""


class WireError(StagefleetError):
    """What a peer sent is not what the protocol allows."""


class VersionError(WireError):
    """A peer speaks another protocol version or serves another model."""


class _AtServerError(StagefleetError):
    def __init__(self, message: str, hint: str = "", *, peer_id: str = "") -> None:
        super().__init__(message, hint)
        self.peer_id = peer_id


class SessionError(_AtServerError):
    """A session cannot be opened or go on.

    Attributes:
        peer_id: the server at which it failed; empty if that is not known.
    """


class ServerFullError(SessionError):
    """A server has no room left for the session's keys and values."""


class MovedError(SessionError):
    """A server does not have the blocks that a route wants of it."""


class NoAnswerError(SessionError):
    """Servers said nothing in time."""


class RouteError(StagefleetError):
    """No chain of servers covers the model's blocks."""


class PeerLostError(_AtServerError):
    """A peer could not be reached or went away.

    Attributes:
        peer_id: the peer; empty if it is not one server.
    """


class RequestError(StagefleetError):
    """A prompt or a sampling option cannot be served."""


class DeployError(StagefleetError):
    """A playbook, a service or a tool of the operator's side failed."""
