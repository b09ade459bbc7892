"""A guard: what tests of clouds connect to is on this machine, or the test fails."""

import socket
from collections.abc import Iterator
from typing import Any, Final

import pytest

_LOOPBACK: Final = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse every connection to another machine and every lookup of its name.

    A test file that imports it is guarded. Attempts that a library swallows and repeats fail the
    test at its end.
    """
    attempts: list[str] = []
    connect, connect_ex, getaddrinfo = (
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.getaddrinfo,
    )

    def check(host: Any) -> None:
        name = host.decode() if isinstance(host, bytes) else host
        if name and not str(name).startswith(_LOOPBACK):
            attempts.append(str(name))
            raise OSError(f"a test wants to reach {name}, which is not this machine")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(_host_of(self, address))
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(_host_of(self, address))
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *more: Any, **named: Any) -> Any:
        check(host)
        return getaddrinfo(host, *more, **named)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
    yield
    assert not attempts, f"the test wanted to reach other machines: {', '.join(attempts)}"


def _host_of(sock: socket.socket, address: Any) -> Any:
    return address[0] if sock.family in {socket.AF_INET, socket.AF_INET6} else None
