"""What is asked of a host before anything is decided about it, and what it answered."""

from collections.abc import Iterator
from typing import Final

from runtime.spec.base import Frozen

SYSTEMD: Final = "systemd"
"""The name of the probe that asks systemd for units."""

_NET_ADMIN: Final = 1 << 12  # Linux's number of CAP_NET_ADMIN
_STATUS: Final = "/proc/self/status"
_RUNNING: Final = "/run/systemd/system"
FILES: Final = (_RUNNING, _STATUS)
"""The files that show whether anything can be changed at all."""


class Probe(Frozen):
    """A question: a program that changes nothing.

    Attributes:
        needs: the probe that must have succeeded, or this one is not asked.
    """

    name: str
    command: tuple[str, ...]
    needs: str = ""


class Answer(Frozen):
    """What a program said; code None: there is no such program, or it was not asked."""

    code: int | None = None
    output: str = ""
    error: str = ""


class Questions(Frozen):
    """Everything to ask a host; `files` are patterns of paths."""

    probes: tuple[Probe, ...]
    files: tuple[str, ...]


class Seen(Frozen):
    """What a host answered.

    Attributes:
        answers: by the names of the probes.
        files: the texts of the files that exist, by path; of a directory, an empty text.
    """

    answers: dict[str, Answer]
    files: dict[str, str]

    def answer(self, probe: str) -> Answer:
        """Return what a probe found; one that was not asked found nothing."""
        return self.answers.get(probe, Answer())

    def unit(self, name: str) -> dict[str, str]:
        """Return what systemd knows of a unit: `ActiveState` and `UnitFileState`."""
        for block in self.answer(SYSTEMD).output.split("\n\n"):
            found = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if found.get("Id") == name:
                return found
        return {}

    def is_on(self, name: str) -> bool:
        """Return whether a unit is active and comes back after a reboot."""
        found = self.unit(name)
        return found.get("ActiveState") == "active" and found.get("UnitFileState") == "enabled"

    @property
    def obstacle(self) -> str:
        """Why nothing of this host's network can be changed, or an empty text."""
        if _RUNNING not in self.files:
            return "runs no systemd, which undoes a change that locks you out"
        for line in self.files.get(_STATUS, "").splitlines():
            key, _, value = line.partition(":")
            if key == "CapEff" and not int(value, 16) & _NET_ADMIN:
                return "may not change its packet filter and network (it lacks CAP_NET_ADMIN)"
        return ""


def units(*names: str) -> Probe:
    """Return the question what systemd knows of these units."""
    properties = "--property=Id,ActiveState,UnitFileState"
    return Probe(name=SYSTEMD, command=("systemctl", "show", properties, *names))


def error_of(answer: Answer) -> str:
    """Return what a program that failed complained about, in one line."""
    lines: Iterator[str] = (
        line.strip() for line in reversed(f"{answer.output}\n{answer.error}".splitlines())
    )
    return next((line for line in lines if line), f"it ended with {answer.code}")
