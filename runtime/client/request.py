"""What may be asked of stage 0, and what it answers."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runtime.spec.base import Frozen

MAX_PROMPT_CHARACTERS = 4 << 20
MAX_STOPS = 16

Prompt = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]


class ChatMessage(Frozen):
    """One turn of a conversation."""

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: Prompt


class GenerationRequest(Frozen):
    """A prompt, or several that are generated together, or a conversation.

    Without a temperature the choice is greedy: always the most likely token.
    """

    prompts: tuple[Prompt, ...] = Field(default=(), max_length=256)
    messages: tuple[ChatMessage, ...] = Field(default=(), max_length=10_000)
    max_new_tokens: int | None = Field(default=None, ge=1, le=2**31)
    temperature: float = Field(default=0, ge=0, le=100)
    top_k: int = Field(default=0, ge=0, le=2**31)
    top_p: float = Field(default=1, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(
        default=(), max_length=MAX_STOPS
    )
    ignore_eos: bool = Field(default=False, description="go on behind the end of the text")
    traced: bool = Field(default=False, description="report when each hop did what")

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        if bool(self.prompts) == bool(self.messages):
            raise ValueError("give either prompts or messages")
        if any(not prompt for prompt in self.prompts):
            raise ValueError("a prompt is empty")
        return self


class HopReport(Frozen):
    """One hop of the route that a session takes; throughput is in decode steps a second."""

    stage: int
    start: int
    end: int
    peer_id: str
    address: str
    throughput: float


class RouteEvent(Frozen):
    """The session is open. `direct`: tokens come straight from the last stage."""

    event: Literal["route"] = "route"
    route: tuple[HopReport, ...]
    direct: bool
    prompt_tokens: tuple[int, ...]


class TokensEvent(Frozen):
    """One more token of each sequence; None for one that has ended."""

    event: Literal["tokens"] = "tokens"
    ids: tuple[int | None, ...]
    text: tuple[str, ...]


Reason = Literal["eos", "stop", "length"]


class EndEvent(Frozen):
    """Everything that was generated, and how fast."""

    event: Literal["end"] = "end"
    token_ids: tuple[tuple[int, ...], ...]
    text: tuple[str, ...]
    finish_reasons: tuple[Reason, ...]
    seed: int
    prefill_seconds: float
    decode_tokens_per_second: float
    trace: tuple[tuple[tuple[int, ...], ...], ...] = ()


class ErrorEvent(Frozen):
    """Why it went no further."""

    event: Literal["error"] = "error"
    kind: str
    message: str
    hint: str = ""


Event = RouteEvent | TokensEvent | EndEvent | ErrorEvent
