"""How commands speak: results on standard output, everything else on standard error."""

import json
import sys

from pydantic import BaseModel
from rich.console import Console

results = Console(highlight=False)
messages = Console(stderr=True, highlight=False)


def print_json(value: BaseModel | dict[str, object] | list[object]) -> None:
    """Print one JSON object, for machines."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    sys.stdout.write(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
