"""The root of the exception tree; the rest of it is drawn in `runtime/errors.py`."""


class StagefleetError(Exception):
    """An error that an operator can act on.

    Attributes:
        hint: what to do next, one sentence, or an empty string.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        """Return the message, and the hint on a line of its own."""
        message = super().__str__()
        return f"{message}\n  -> {self.hint}" if self.hint else message


class SpecError(StagefleetError):
    """The inventory does not describe a fleet that can be built."""
