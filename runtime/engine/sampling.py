"""Choosing the next tokens: the same ones wherever and however often they are chosen."""

import hashlib
import struct
from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from runtime.engine.options import Sampling
from runtime.errors import RequestError, SessionError


def validate(sampling: Sampling) -> None:
    """Refuse options outside their bounds.

    Raises:
        RequestError: which option, and its bound.
    """
    try:
        msgspec.convert(msgspec.structs.asdict(sampling), Sampling)
    except msgspec.ValidationError as error:
        raise RequestError(
            f"sampling option out of bounds: {error}",
            "temperature: 0 to 1000; top_k: 0 or more; top_p: above 0, up to 1; "
            "seed: 0 to 2^63 - 1",
        ) from None


def sample(
    logits: Tensor,
    sampling: Sampling,
    positions: Sequence[int],
    rows: Sequence[int] | None = None,
) -> list[int]:
    """Return one token id per row.

    A row's token depends on its logits, the options, its number and its position alone: not on the
    other rows, nor on what was drawn before, so a replay or another split gives the same tokens.

    Args:
        logits: float32 [batch, vocab], on any device.
        sampling: valid options.
        positions: of the token to choose, for each row; padding does not count.
        rows: each row's number in its session; default: 0, 1, …

    Raises:
        SessionError: the logits are not numbers, or the lengths differ.
    """
    rows = range(len(logits)) if rows is None else rows
    if not len(logits) == len(positions) == len(rows):
        raise SessionError(
            f"{len(logits)} rows of logits, {len(positions)} positions, {len(rows)} row numbers"
        )
    if bool(logits.isnan().any()):
        raise SessionError(
            "the model computed something that is not a number",
            "with float16, use bfloat16 or float32 instead; else verify the model's files",
        )
    if sampling.temperature == 0:
        return [int(token) for token in logits.argmax(-1)]
    return [
        _draw(row_logits, sampling, row, position)
        for row_logits, row, position in zip(logits.float().cpu(), rows, positions, strict=True)
    ]


@torch.inference_mode()
def _draw(logits: Tensor, sampling: Sampling, row: int, position: int) -> int:
    # Probabilities do not change when all logits are shifted; this keeps them finite however small
    # the temperature is.
    scores = (logits - logits.max()).unsqueeze(0)
    warpers = [TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    for warper in warpers:
        scores = warper(None, scores)
    reached = scores[0].double().softmax(-1).cumsum(-1)
    total = reached[-1]
    threshold = total * _uniform(sampling.seed, row, position)
    # The first token that goes beyond the threshold. Should the product have been rounded up to the
    # total itself, none does, and the last possible token is meant.
    beyond = torch.searchsorted(reached, threshold, right=True)
    return int(torch.minimum(beyond, torch.searchsorted(reached, total)))


def _uniform(seed: int, row: int, position: int) -> float:
    """Return a number in [0, 1) that only these three decide.

    A hash, and not a seeded `torch.Generator`, because that one uses 32 bits of its seed only.
    """
    packed = struct.pack("<QQQ", seed, row, position)
    digest = hashlib.blake2b(packed, digest_size=8).digest()
    bits: int = struct.unpack("<Q", digest)[0] >> 11
    return float(bits * 2.0**-53)
