"""Where a server loads its weights from: the model's directory, or what is kept of a shared one."""

from pathlib import Path

from runtime.model.going import Going
from runtime.model.share import local_model
from runtime.spec.base import Span
from runtime.spec.stage import StageConfig


def weights(config: StageConfig, span: Span, going: Going = lambda: None) -> Path:
    """Return the directory to load a span from.

    Args:
        config: the server's.
        span: the blocks; where there are none, what the client side needs to read and write text.
        going: called for every piece that is read of a shared model; what it raises ends this.

    Raises:
        ModelError: a shared model cannot be read, or is not what its manifest says.
    """
    if not config.model_is_shared:
        return config.model
    return local_model(
        config.model,
        span,
        # Whoever has block 0, only the client side turns token ids into hidden states.
        embeddings=config.stage == 0,
        cache=config.model_cache,
        seconds=config.model_timeout_seconds,
        going=going,
    )
