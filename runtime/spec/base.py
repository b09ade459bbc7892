"""The base of every record, and the few types that several of them share."""

import difflib
import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.spec.errors import SpecError


class Frozen(BaseModel):
    """A record that never changes, takes no unknown key and converts nothing silently."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


def _host_name_or_ip(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        pass
    label = r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?"
    if len(value) > 253 or not re.fullmatch(rf"{label}(\.{label})*", value):
        raise ValueError(f"{value!r} is neither an IP address nor a host name")
    if re.fullmatch(r"[0-9.]+", value):
        raise ValueError(f"{value!r} is not a valid IPv4 address")
    return value


def _ip(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"{value!r} is not an IP address") from None


def _cidr(value: str) -> str:
    try:
        # What clouds do with host bits, so that what is read back later is what was asked for.
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as error:
        raise ValueError(f"{value!r} is not a network in CIDR form: {error}") from None


Port = Annotated[int, Field(ge=1, le=65535)]
Address = Annotated[str, AfterValidator(_host_name_or_ip)]
"""An IP address or a DNS name."""
Ip = Annotated[str, AfterValidator(_ip)]
Cidr = Annotated[str, AfterValidator(_cidr)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
"""Lower-case letters, digits and dashes: it becomes part of unit names and of paths."""


class Span(Frozen):
    """The blocks `[start, end)`; a server without blocks has `start == end`."""

    start: int = Field(ge=0)
    end: int = Field(ge=0)

    @model_validator(mode="after")
    def _runs_forward(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"span [{self.start}, {self.end}) ends before it starts")
        return self

    def __len__(self) -> int:
        """Return the number of blocks."""
        return self.end - self.start

    def covers(self, other: "Span") -> bool:
        """Return whether every block of another span is one of this span's."""
        return self.start <= other.start and other.end <= self.end

    def __str__(self) -> str:
        """Return the span in interval notation."""
        return f"[{self.start}, {self.end})"


def words(error: ValidationError, model: type[BaseModel], where: str) -> SpecError:
    """Return pydantic's findings in the operator's words: key, value and, for a typo, the fix."""
    lines = [f"{where}: {line}" for line in _findings(error, model)]
    return SpecError("\n".join(lines))


def _findings(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    for finding in error.errors(include_url=False):
        path = ".".join(str(part) for part in finding["loc"] if not _is_union_tag(part))
        if finding["type"] == "extra_forbidden":
            key = str(finding["loc"][-1])
            known = sorted(_keys_at(model, finding["loc"][:-1]))
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            advice = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
            yield f"unknown key '{path}'; {advice}"
        elif finding["type"] == "missing":
            yield f"'{path}' is missing"
        else:
            message = finding["msg"].removeprefix("Value error, ")
            value = finding["input"]
            shown = "" if isinstance(value, dict | list) or not path else f" (got {value!r})"
            yield f"'{path}': {message}{shown}" if path else message


def _is_union_tag(part: int | str) -> bool:
    """Return whether pydantic, not the operator, put this part into the path."""
    return isinstance(part, str) and (part in {"int", "str"} or part[:1].isupper())


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> set[str]:
    """Return the keys that are known at a place inside a model."""
    here = [model]
    for part in path:
        inside = [
            found
            for candidate in here
            if part in candidate.model_fields
            for found in _models_in(candidate.model_fields[str(part)].annotation)
        ]
        # A list's index or a mapping's key leads to no other model.
        here = inside or here
    return {key for candidate in here for key in candidate.model_fields}


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)
