"""What has been generated so far, and why each sequence ends."""

import statistics
import time
from collections.abc import Sequence
from typing import Final

from runtime.client.prompts import Tokenizer
from runtime.client.request import EndEvent, GenerationRequest, Reason, TokensEvent
from runtime.client.text import TextStream
from runtime.errors import SessionError
from runtime.wire.messages import Timing

_STEPS: Final = 8


class Progress:
    """A batch of sequences while it is being generated."""

    def __init__(
        self, request: GenerationRequest, tokenizer: Tokenizer, batch: int, new_tokens: int
    ) -> None:
        """Start the clock."""
        self._request = request
        self._tokenizer = tokenizer
        self._new_tokens = new_tokens
        self._ids: list[list[int]] = [[] for _ in range(batch)]
        self._texts = [TextStream(tokenizer.fast, request.stop) for _ in range(batch)]
        self._reasons: list[Reason | None] = [None] * batch
        self._started = time.monotonic()
        self._first = self._latest = self._started

    @property
    def is_over(self) -> bool:
        """Whether every sequence has ended."""
        return all(self._reasons)

    def take(self, chosen: tuple[int, ...]) -> TokensEvent:
        """Add the next token of each sequence; those that have ended ignore theirs.

        Raises:
            SessionError: the last stage answered for another number of sequences.
        """
        if len(chosen) != len(self._ids):
            raise SessionError(f"{len(chosen)} tokens came for {len(self._ids)} sequences")
        self._latest = time.monotonic()
        if not self._ids[0]:
            self._first = self._latest
        taken: list[int | None] = []
        pieces = []
        for row, token in enumerate(chosen):
            ended = self._reasons[row] is not None
            taken.append(None if ended else token)
            pieces.append("" if ended else self._add(row, token))
        return TokensEvent(ids=tuple(taken), text=tuple(pieces))

    def end(self, seed: int, trace: list[tuple[Timing, ...]]) -> EndEvent:
        """Return everything that was generated."""
        decoded = sum(len(ids) - 1 for ids in self._ids)
        seconds = self._latest - self._first
        return EndEvent(
            token_ids=tuple(tuple(ids) for ids in self._ids),
            text=tuple(text.text for text in self._texts),
            finish_reasons=tuple(reason or "length" for reason in self._reasons),
            seed=seed,
            prefill_seconds=self._first - self._started,
            decode_tokens_per_second=decoded / seconds if seconds > 0 else 0.0,
            trace=tuple(
                tuple(
                    (hop.stage, hop.received, hop.started, hop.finished, hop.sent) for hop in step
                )
                for step in trace
            ),
        )

    def _add(self, row: int, token: int) -> str:
        ids, text = self._ids[row], self._texts[row]
        ids.append(token)
        if token in self._tokenizer.eos and not self._request.ignore_eos:
            self._reasons[row] = "eos"
            return text.finish()
        piece = text.push(token)
        if text.stopped:
            self._reasons[row] = "stop"
        elif len(ids) == self._new_tokens:
            self._reasons[row] = "length"
            piece += text.finish()
        return piece


class StepTimes:
    """What the decode steps of a session take, without those that happened to be slow."""

    def __init__(self) -> None:
        """Start without a step."""
        self._seconds: list[float] = []

    def add(self, seconds: float, shape: Sequence[int]) -> float | None:
        """Return the seconds of a step of one sequence, once enough steps have been seen.

        Args:
            seconds: that a step has taken.
            shape: of its token ids, `[batch, tokens]`; a prompt's say nothing on decoding.
        """
        batch, tokens = shape
        if tokens > 1:
            return None
        # Sequences of a batch cost no more than one after the other.
        self._seconds.append(seconds / batch)
        if len(self._seconds) < _STEPS:
            return None
        found = statistics.median(self._seconds)
        self._seconds.clear()
        return found
