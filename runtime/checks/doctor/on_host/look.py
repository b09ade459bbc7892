"""What a host says of itself: a program for hosts that have only Python.

`runtime.checks.doctor.asked` packs it with the modules that it imports into one text, for
`python -c`. It reads a request, a JSON object, and prints an object with a key for each part that
the request names. It changes nothing: the file that it writes to learn a disk's speed has no name.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runtime.checks.doctor.on_host import disks, gpus, machine, network, pipeline, services

_PARTS: dict[str, Callable[[Any], Any]] = {
    "machine": machine.seen,
    "modules": machine.modules,
    "clock": machine.clock,
    "memory": machine.memory,
    "directories": disks.seen,
    "speeds": disks.speeds,
    "model": disks.model,
    "gpus": gpus.seen,
    "cards": network.cards,
    "sockets": network.sockets_of,
    "paths": network.paths,
    "services": services.seen,
    "swarm": pipeline.swarm,
    "token": pipeline.token,
}


def main() -> None:
    """Look at what the request names, side by side, and print what was seen."""
    start = time.time()
    request = json.load(sys.stdin)
    wanted = {name: each for name, each in request.items() if name in _PARTS}
    with ThreadPoolExecutor(len(_PARTS)) as pool:
        parts = {name: pool.submit(_part, name, each) for name, each in wanted.items()}
        found = {name: part.result() for name, part in parts.items()}
    print(json.dumps({**found, "time": {"start": start, "end": time.time()}}))


def _part(name: str, asked: object) -> object:
    """Return what a part has seen; what stops one part does not stop the others."""
    with contextlib.suppress(OSError):
        return _PARTS[name](asked)
    return None
