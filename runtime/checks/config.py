"""A server's configuration: read from its file, and checked against this host."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from runtime.errors import ConfigError
from runtime.model.check import check_model
from runtime.model.manifest import Manifest, read_manifest
from runtime.model.share import watched
from runtime.spec.base import Span, words
from runtime.spec.stage import StageConfig


@dataclass(frozen=True)
class Checked:
    """A configuration that this host can serve.

    Attributes:
        span: the blocks that it gives this server; None if the server chooses them.
        path: the file that it was read from, if it was read from one.
    """

    config: StageConfig
    identity: Path
    manifest: Manifest
    span: Span | None
    max_length: int
    path: Path | None = None


def read_config(path: Path) -> StageConfig:
    """Return the configuration in a JSON file.

    Raises:
        ConfigError: the file is missing, is no JSON or says something impossible.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
        json.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration at {path}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error}") from error
    try:
        return StageConfig.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(str(words(error, StageConfig, str(path)))) from error


def checked(config: StageConfig, path: Path | None = None) -> Checked:
    """Return the configuration with everything this host adds to it.

    Args:
        config: the configuration.
        path: the file that it was read from, if it was read from one.

    Raises:
        ConfigError: it cannot be served here, or not by this release.
        ModelError: the model directory is missing, damaged or not supported.
    """
    if config.identity is None:
        raise ConfigError(
            "no identity: servers talk over mutual TLS only",
            hint="docs/how-to/by-hand.md shows how to make one and give it with --identity",
        )
    identity = config.identity.expanduser()
    config = config.model_copy(update={"model": config.model.expanduser()})
    # Of a host that shares it and is silent, each look at a file would be waited for.
    manifest = _bounded(config, lambda: read_manifest(config.model))
    if config.total_blocks not in (None, manifest.total_blocks):
        raise ConfigError(
            f"total_blocks is {config.total_blocks}, but the model in {config.model} has "
            f"{manifest.total_blocks} blocks",
            hint="correct model.total_blocks in the inventory",
        )
    if isinstance(config.num_blocks, int) and config.num_blocks > manifest.total_blocks:
        raise ConfigError(
            f"num_blocks is {config.num_blocks}, but the model in {config.model} has "
            f"{manifest.total_blocks} blocks",
            hint="serve at most as many blocks as the model has",
        )
    try:
        span = config.span(manifest.total_blocks)
    except ValueError as error:
        raise ConfigError(str(error), hint="correct the splits in the inventory") from error
    whole = Span(start=0, end=manifest.total_blocks)
    _bounded(config, lambda: check_model(config.model, span or whole))
    if config.max_length > manifest.max_length:
        raise ConfigError(
            f"max_length is {config.max_length}, but the model was made for "
            f"{manifest.max_length} tokens"
        )
    return Checked(
        config=config,
        identity=identity,
        manifest=manifest,
        span=span,
        max_length=config.max_length or manifest.max_length,
        path=path,
    )


def _bounded(config: StageConfig, look: Callable[[], Manifest]) -> Manifest:
    if not config.model_is_shared:
        return look()
    return watched(lambda _: look(), config.model_timeout_seconds, config.model)
