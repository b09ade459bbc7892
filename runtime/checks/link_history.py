"""What links have brought so far: one line of JSON for each proof, on the operator's machine."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from runtime.checks.link_report import Row
from runtime.spec.base import Frozen


class Proof(Frozen):
    """One proof of a fleet's links.

    Attributes:
        at: when, in UTC, as ISO 8601 has it.
    """

    at: str
    rows: tuple[Row, ...]

    def row(self, id_: str) -> Row | None:
        """Return what was found of one direction then, or None where it was not tried."""
        return next((row for row in self.rows if row.way.id == id_), None)


def history_path(fleet: str) -> Path:
    """Return where the proofs of a fleet are kept."""
    return Path("~/.local/state/stagefleet").expanduser() / fleet / "links.jsonl"


def kept(path: Path, rows: Iterable[Row], now: datetime | None = None) -> Proof:
    """Keep a proof behind those before, and return it."""
    when = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")
    proof = Proof(at=when, rows=tuple(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(proof.model_dump(mode="json")) + "\n")
    return proof


def proofs(path: Path) -> tuple[Proof, ...]:
    """Return the proofs that were kept, the oldest first; lines that nobody can read are left out.

    A version of stagefleet that kept other things is no reason to fail.
    """
    found = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(Proof.model_validate_json(line))
            except ValidationError:
                continue
    return tuple(found)
