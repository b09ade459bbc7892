"""Where a server's span comes from."""

from typing import Protocol

from runtime.checks.config import Checked
from runtime.spec.base import Span


class SpanSource(Protocol):
    """Says which blocks a server is to serve."""

    async def choose(self) -> Span:
        """Return the blocks; called once the server has joined the swarm, before it loads any.

        Raises:
            StagefleetError: there is nothing to serve.
        """


class FixedSpan:
    """The same blocks, whatever the swarm looks like."""

    def __init__(self, span: Span) -> None:
        """Give these blocks."""
        self._span = span

    async def choose(self) -> Span:
        """Return them."""
        return self._span


def configured(checked: Checked) -> SpanSource | None:
    """Return the source that a configuration asks for; None: the server balances itself."""
    return None if checked.span is None else FixedSpan(checked.span)
