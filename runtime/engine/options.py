"""How a session's tokens are chosen, as requests and messages carry it: no torch in here."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

MAX_SEED: Final = 2**63 - 1


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a session's tokens are chosen.

    Decoding a message checks these bounds; `validate` checks an instance made in Python.

    Attributes:
        temperature: 0 always takes the likeliest token; higher values make unlikely ones likelier.
        top_k: only this many of the likeliest tokens can be chosen; 0: no limit.
        top_p: only the likeliest tokens that together have this probability can be chosen.
        seed: the same seed gives the same tokens.
    """

    temperature: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] = 0
