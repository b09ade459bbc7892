"""The reports of earlier runs, kept on the controller: so many of each fleet, the oldest go."""

import os
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from runtime.checks.doctor.finding import Report

KEPT: Final = 50
_SUFFIX: Final = ".json"


def directory(fleet: str) -> Path:
    """Return where the reports of a fleet are kept: XDG's place for state."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "stagefleet" / fleet / "doctor"


def last(fleet: str, moment: str) -> Report | None:
    """Return the latest report of this kind that can be read, or None."""
    for path in sorted(directory(fleet).glob(f"*-{moment}{_SUFFIX}"), reverse=True):
        try:
            return Report.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            # Of another release, or cut short: it is no yardstick.
            continue
    return None


def keep(report: Report) -> Path:
    """Write a report beside the earlier ones, and remove the oldest beyond KEPT.

    Raises:
        OSError: it cannot be written.
    """
    place = directory(report.fleet)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = place / f"{round(report.at * 1000):015d}-{report.moment}{_SUFFIX}"
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(report.model_dump_json(), encoding="utf-8")
    unfinished.rename(path)
    for old in sorted(place.glob(f"*{_SUFFIX}"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return path
