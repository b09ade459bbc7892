"""The fake of Google's compute API behind a socket of loopback."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.gcp.fake import Compute
from tests.support.gcp.faults import HangUpError


@contextlib.contextmanager
def serving(compute: Compute) -> Iterator[str]:
    """Serve it, and yield the endpoint.

    Raises:
        AssertionError: at the end, if something was done that must never be.
    """
    server = _Server(compute)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.close_all()
    assert not compute.defects, compute.defects


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, compute: Compute) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.compute = compute
        self._open: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        found, address = super().get_request()
        self._open.add(found)
        return found, address

    def close_all(self) -> None:
        """Hang up on clients that keep their connections, and wait for those that serve them."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without these two, each answer waits for an acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        text = self.rfile.read(length)
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query))
        # Not a parameter of the method: the client says how it wants the answer.
        query.pop("$alt", None)
        try:
            body = json.loads(text) if text else None
            code, answer = self.server.compute.answer(
                self.command, address.path, query, dict(self.headers), body
            )
        except HangUpError:
            self.close_connection = True
            return
        found = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - the base's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's signature
        pass
