"""The wheel that hosts get, built from a checkout; the role `runtime` runs this on the controller.

    python -m runtime.cli.release CHECKOUT DIRECTORY

A program of its own, because every deployment waits for it and the command line loads longer.
"""

import hashlib
import json
import sys
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder


def release(checkout: Path, directory: Path) -> dict[str, str]:
    """Build the wheel; return its path and its SHA-256.

    It is the same, byte for byte, until a source file changes.
    """
    builder = WheelBuilder(str(checkout))
    (built,) = builder.build(directory=str(directory.absolute()), versions=["standard"])
    return {"path": built, "sha256": hashlib.sha256(Path(built).read_bytes()).hexdigest()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(release(Path(sys.argv[1]), Path(sys.argv[2]))))
