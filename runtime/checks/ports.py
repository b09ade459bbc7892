"""Who listens on a port of this host."""

import contextlib
import socket

import psutil

from runtime.errors import ConfigError


def refuse_taken(bind: str, port: int, service: str) -> None:
    """Refuse to go on if another process listens on the port that a service needs.

    Raises:
        ConfigError: the port is taken, by whom if this user may know, or the address is wrong.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        socket.create_server((bind, port), family=family).close()
    except PermissionError:
        raise ConfigError(
            f"this user may not listen on port {port} ({service})",
            hint="choose a port above 1023",
        ) from None
    except OSError as error:
        user = listener(port)
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
        return f"'{' '.join(process.cmdline()) or process.name()}' (pid {pid})"
    except psutil.Error:
        return f"process {pid}"
