"""From token ids to text, piece by piece: never half a character, never part of a stop string."""

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerFast


class TextStream:
    """The text of one sequence while it is being generated."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, stops: Sequence[str]) -> None:
        """Start without a token."""
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._text = ""
        self._given = 0
        self.stopped = False

    @property
    def text(self) -> str:
        """Everything given out so far."""
        return self._text[: self._given]

    def push(self, token: int) -> str:
        """Take a token; return the text that is certain now, often nothing.

        Afterwards `stopped` says whether a stop string has come; the text ends before it.
        """
        self._ids.append(token)
        piece = self._stream.step(self._tokenizer.backend_tokenizer, token)
        return self._give(piece) if piece else ""

    def finish(self) -> str:
        """Return the rest of the text: what was held back, complete or not."""
        if self.stopped:
            return ""
        full = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        if full.startswith(self._text):
            self._text = full
        self._cut_at_stop(0)
        piece = self._text[self._given :]
        self._given = len(self._text)
        return piece

    def _give(self, piece: str) -> str:
        before = len(self._text)
        self._text += piece
        self._cut_at_stop(before)
        held = 0 if self.stopped else self._possible_stop()
        end = max(self._given, len(self._text) - held)
        given = self._text[self._given : end]
        self._given = end
        return given

    def _cut_at_stop(self, new_from: int) -> None:
        longest = max((len(stop) for stop in self._stops), default=0)
        places = [
            self._text.find(stop, max(0, new_from - longest, self._given)) for stop in self._stops
        ]
        found = [place for place in places if place >= 0]
        if found:
            self._text = self._text[: min(found)]
            self.stopped = True

    def _possible_stop(self) -> int:
        """Return how many characters at the end may be the start of a stop string."""
        return max(
            (
                size
                for stop in self._stops
                for size in range(1, len(stop))
                if self._text.endswith(stop[:size])
            ),
            default=0,
        )
