"""What a server measured before, on disk, so that its next start needs no measurement to join.

A note is true for one model on one device with one release: everything that a step's time depends
on is in it, and in its name. It only says what to expect before anything is loaded; whatever is
measured afterwards is what counts.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog
from msgspec import Meta

log = structlog.get_logger()

PLACE: Final = "CACHE_DIRECTORY"
"""Where systemd tells a service that it may keep such things (systemd.exec, CacheDirectory=)."""
_MOST_BYTES = 1 << 16


class _Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: dict[str, str]
    block_seconds: Annotated[float, Meta(gt=0, le=1e6)]


class Notebook:
    """A directory with one note for each kind of server; without a directory it keeps nothing."""

    def __init__(self, directory: Path | None) -> None:
        """Use a directory that this process may write to."""
        self._directory = directory

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> "Notebook":
        """Return the notebook of this process, empty for good if it has been given no place."""
        first = environment.get(PLACE, "").split(":")[0]
        return cls(Path(first) if first else None)

    def block_seconds(self, about: Mapping[str, str]) -> float | None:
        """Return what a decode step took for each block, if that has been noted.

        Args:
            about: everything that it depends on.
        """
        path = self._path(about)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                note = msgspec.json.decode(file.read(_MOST_BYTES), type=_Note)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.warning("a note is ignored", path=str(path), reason=str(error))
            return None
        if note.about != dict(about):
            log.warning("a note is ignored", path=str(path), reason="it is about something else")
            return None
        return note.block_seconds

    def write(self, about: Mapping[str, str], block_seconds: float) -> None:
        """Note what a decode step takes for each block; a server that cannot goes on without.

        Args:
            about: everything that it depends on.
            block_seconds: more than 0.
        """
        path = self._path(about)
        if path is None:
            return
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(msgspec.json.encode(_Note(dict(about), block_seconds)))
            Path(file.name).replace(path)
        except OSError as error:
            log.warning("what was measured is not kept", path=str(path), reason=str(error))

    def _path(self, about: Mapping[str, str]) -> Path | None:
        if self._directory is None:
            return None
        text = msgspec.json.encode(sorted(about.items()))
        return self._directory / f"measured-{hashlib.sha256(text).hexdigest()[:16]}.json"
