"""Run every test, those of the lab beside all others: python -m tests.

The lab's tests mostly wait for hosts that boot and for playbooks, the others compute. What the
lab's tests say is kept until the others have ended.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO, Final

ROOT: Final = Path(__file__).resolve().parents[1]
LAB: Final = "tests/lab"
_INTERRUPTED: Final = 130


def main() -> int:
    """Return what the worse of the two ends with."""
    with tempfile.TemporaryFile() as said:
        lab, others = _pytest(LAB, said=said), _pytest(f"--ignore={LAB}")
        # Both are in this process group, so that Ctrl-C reaches them; they end by themselves then.
        try:
            code = max(others.wait(), lab.wait())
        except KeyboardInterrupt:
            others.wait()
            lab.wait()
            code = _INTERRUPTED
        print("\nThe tests of the lab, which ran beside these:\n", flush=True)
        said.seek(0)
        shutil.copyfileobj(said, sys.stdout.buffer)
        sys.stdout.flush()
    return code


def _pytest(argument: str, said: BinaryIO | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", argument],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=None if said is None else subprocess.STDOUT,
    )


if __name__ == "__main__":
    sys.exit(main())
