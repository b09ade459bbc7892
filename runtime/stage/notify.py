"""systemd's notification protocol, as sd_notify(3) describes it."""

import os
import socket


def notify(state: str) -> None:
    """Tell systemd, if it started this process and asks to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect(address)
        channel.sendall(state.encode())
