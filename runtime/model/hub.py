"""Models on the Hugging Face hub, downloaded into its own cache.

The access token for private or gated models comes from the environment variable HF_TOKEN only.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from runtime.errors import ModelError

Fetch = Callable[..., str]
"""`huggingface_hub.snapshot_download`, or what stands for it in a test."""

_ID: Final = re.compile(r"(?P<model>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+))?")
_WANTED: Final = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt")
_UNWANTED: Final = ("original/*", "onnx/*", "consolidated*", "*.index.fp*")


def is_hub_id(text: str) -> bool:
    """Return whether the text has the form OWNER/MODEL or OWNER/MODEL@REVISION."""
    return _ID.fullmatch(text) is not None


def download(identifier: str, fetch: Fetch = snapshot_download) -> Path:
    """Return the directory with a model's files, downloading what is not there yet.

    Raises:
        ModelError: the model does not exist, is not for this token, or the hub is out of reach.
    """
    match = _ID.fullmatch(identifier)
    if match is None:
        raise ModelError(f"'{identifier}' is no model of the hub", "write OWNER/MODEL")
    try:
        return Path(
            fetch(
                repo_id=match["model"],
                revision=match["revision"],
                allow_patterns=list(_WANTED),
                ignore_patterns=list(_UNWANTED),
                token=os.environ.get("HF_TOKEN") or False,
            )
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(
            f"'{identifier}' cannot be downloaded from the hub: {error}",
            "check the name and the network; a private or gated model needs HF_TOKEN; "
            "a model on disk is named by its path",
        ) from error
