"""How the operator's side reaches a fleet's gateway: on this machine, or through SSH."""

import contextlib
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.errors import DeployError, SpecError
from runtime.spec.inventory import Inventory
from runtime.spec.services import LOOPBACK

_TUNNEL_SECONDS = 20


@contextlib.contextmanager
def gateway_url(inventory: Inventory) -> Iterator[str]:
    """Yield the base URL of a fleet's gateway, which listens on loopback of stage 0's host.

    A host that Ansible reaches over SSH is reached over SSH here too, with the same variables.

    Raises:
        SpecError: Ansible reaches stage 0's host by a way that this command does not know.
        DeployError: SSH does not get there.
    """
    host = inventory.fleet.stages[0].host
    port = inventory.fleet.hosts[host].ports.gateway
    variables = inventory.variables[host]
    connection = variables.get("ansible_connection", "ssh")
    if connection == "local":
        yield f"http://{LOOPBACK}:{port}"
    elif connection in ("ssh", "smart", "ansible.builtin.ssh"):
        with _tunnel(ssh_command(host, variables), port) as local_port:
            yield f"http://{LOOPBACK}:{local_port}"
    else:
        raise SpecError(
            f"host {host} is reached by '{connection}', which leads to no gateway from here",
            hint=f"forward port {port} of that host yourself and use --url",
        )


def ssh_command(host: str, variables: Mapping[str, Any]) -> list[str]:
    """Return the ssh command that reaches a host, from Ansible's variables about it."""
    command = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    for key in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        command += shlex.split(str(variables.get(key, "")))
    if "ansible_port" in variables:
        command += ["-p", str(variables["ansible_port"])]
    key_file = variables.get("ansible_ssh_private_key_file")
    if key_file:
        command += ["-i", os.path.expanduser(str(key_file))]  # noqa: PTH111 - text, as ssh takes it
    user = variables.get("ansible_user")
    address = str(variables.get("ansible_host", host))
    return [*command, f"{user}@{address}" if user else address]


@contextlib.contextmanager
def _tunnel(ssh: list[str], port: int) -> Iterator[int]:
    local_port = _free_port()
    forward = f"{LOOPBACK}:{local_port}:{LOOPBACK}:{port}"
    command = [*ssh[:-1], "-N", "-o", "ExitOnForwardFailure=yes", "-L", forward, ssh[-1]]
    tunnel = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _wait_until_open(tunnel, local_port, ssh[-1])
        yield local_port
    finally:
        tunnel.terminate()
        tunnel.communicate()


def _wait_until_open(tunnel: subprocess.Popen[str], port: int, host: str) -> None:
    deadline = time.monotonic() + _TUNNEL_SECONDS
    while time.monotonic() < deadline:
        if tunnel.poll() is not None:
            said = tunnel.stderr.read().strip() if tunnel.stderr else ""
            raise DeployError(f"ssh to {host} failed: {said}", hint=f"try: ssh {host}")
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
            return
        time.sleep(0.05)
    raise DeployError(f"ssh to {host} has opened no tunnel within {_TUNNEL_SECONDS} s")


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
