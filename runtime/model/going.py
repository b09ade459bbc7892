"""How loading, which may take minutes, learns that nobody waits for it any more."""

from collections.abc import Callable

Going = Callable[[], None]
"""Called by whoever loads, before each piece; what it raises ends the loading."""
