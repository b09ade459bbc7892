"""Other programs, run to their end: every call has a time limit, every failure says what it was."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError

_SHOWN_LINES = 20


def run(
    *command: str | Path,
    seconds: float = 60,
    stdin: str | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    """Return what a command prints to its standard output.

    Raises:
        LabError: it failed, is not installed, or has not ended in time.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{words[0]} is not installed", hint="./fleet lab up installs it") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"not ended within {seconds:.0f} s: {_shown(words)}") from None
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_SHOWN_LINES:])
        raise LabError(f"ended with {done.returncode}: {_shown(words)}\n{said}")
    return done.stdout


def succeeds(*command: str | Path, seconds: float = 60) -> bool:
    """Return whether a command ends with 0; one that has not ended in time does not."""
    try:
        run(*command, seconds=seconds)
    except LabError:
        return False
    return True


def start(command: Sequence[str], log: Path) -> None:
    """Start a program that goes on when this one ends; what it says is added to a file."""
    with log.open("ab") as said:
        subprocess.run(
            ["setsid", "--fork", *command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            timeout=10,
            check=True,
        )


def _shown(words: Sequence[str]) -> str:
    text = shlex.join(words)
    return text if len(text) <= 300 else f"{text[:300]}…"
