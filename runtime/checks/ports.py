"""Who listens on a port of this host."""

import contextlib
import errno
import socket

import psutil

from runtime.errors import ConfigError
from runtime.spec.services import DHT, GATEWAY, LOOPBACK, RPC
from runtime.spec.stage import StageConfig

_SHOWN_CHARACTERS = 120


def refuse_taken_ports(config: StageConfig) -> None:
    """Refuse to start a server whose ports another process holds.

    Raises:
        ConfigError: which port, and whose it is.
    """
    _refuse_taken(config.bind, config.listen_dht_port, DHT.name)
    _refuse_taken(config.bind, config.listen_rpc_port, RPC.name)
    if config.stage == 0 and config.prompt is None:
        _refuse_taken(LOOPBACK, config.gateway_port, GATEWAY.name)


def _refuse_taken(bind: str, port: int, service: str) -> None:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        socket.create_server((bind, port), family=family).close()
    except PermissionError:
        raise ConfigError(
            f"this user may not listen on port {port} ({service})",
            hint="choose a port above 1023",
        ) from None
    except OSError as error:
        user = listener(port) if error.errno == errno.EADDRINUSE else None
        if user is None:
            raise ConfigError(
                f"cannot listen on {bind} port {port} ({service}): {error}"
            ) from error
        raise ConfigError(
            f"port {port} ({service}) is taken by {user}",
            hint="stop that process, or give this service another port in the inventory",
        ) from None


def listener(port: int) -> str | None:
    """Return the process that listens on a TCP port, or None if nobody does or it is hidden."""
    with contextlib.suppress(psutil.AccessDenied):
        for connection in psutil.net_connections(kind="tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
            ):
                return _process(connection.pid)
    return None


def _process(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline()) or process.name()
        return f"'{command[:_SHOWN_CHARACTERS]}' (pid {pid})"
    except psutil.Error:
        return f"process {pid}"
