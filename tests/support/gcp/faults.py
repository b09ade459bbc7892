"""Answers that say no, and how tests ask for them."""

from dataclasses import dataclass
from typing import Any


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of the fake's
    """An answer that says no."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one call.

    Attributes:
        code, reason, message: the answer; a code of 0 hangs up instead.
        made: what was asked for is made all the same, and only the answer is lost.
        later: the call is answered well, and the operation that it begins ends with this error.
        name: what the operation's error is called.
    """

    code: int = 0
    reason: str = ""
    message: str = "somebody tests"
    made: bool = False
    later: bool = False
    name: str = "INTERNAL_ERROR"


class HangUpError(Exception):
    """The connection ends here, without an answer."""


def raise_fault(fault: Fault) -> None:
    """Answer as a fault says, now."""
    if not fault.code:
        raise HangUpError
    raise Refusal(fault.code, fault.reason, fault.message)


def error_of(refusal: Refusal) -> dict[str, Any]:
    """Return the body of an answer that says no."""
    message = str(refusal)
    each = {"message": message, "domain": "global", "reason": refusal.reason}
    return {"error": {"code": refusal.code, "message": message, "errors": [each]}}
