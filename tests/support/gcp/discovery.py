"""What Google's discovery document says of a call: its route, its parameters, its body."""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.gcp.extract import TARGET

_TYPES = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "array": list,
    "object": dict,
    "number": float,
}

_WRITTEN = {"integer": "[0-9]+", "boolean": "true|false"}


@dataclass(frozen=True)
class Method:
    """One method of the API.

    Attributes:
        name: such as "compute.firewalls.insert".
        verb: of HTTP.
        path: what a whole path has to match; its groups are the parameters in it.
        said: what the document says besides.
    """

    name: str
    verb: str
    path: re.Pattern[str]
    said: Mapping[str, Any]


class Discovery:
    """The part of the document that `extract.py` has taken out."""

    def __init__(self) -> None:
        document = json.loads(TARGET.read_text())
        self.revision: str = document["revision"]
        self._common: dict[str, Any] = document["parameters"]
        self._schemas: dict[str, Any] = document["schemas"]
        self._methods = [
            self._method(name, said, document["servicePath"])
            for name, said in document["methods"].items()
        ]

    def find(self, verb: str, path: str) -> tuple[Method, dict[str, str]] | None:
        """Return the method of a request, and the parameters in its path."""
        for method in self._methods:
            found = method.path.fullmatch(path)
            if found and method.verb == verb:
                return method, found.groupdict()
        return None

    def query_problems(self, method: Method, query: Mapping[str, str]) -> Iterator[str]:
        """Yield what is wrong with the parameters behind the question mark."""
        for name, value in query.items():
            said = method.said["parameters"].get(name) or self._common.get(name)
            if said is None or said["location"] != "query":
                yield f"Unknown query parameter: {name}"
            elif not re.fullmatch(_WRITTEN.get(said["type"], ".*"), value, re.DOTALL):
                yield f"Invalid value for query parameter {name}: {value}"
        for name, said in method.said["parameters"].items():
            if said["location"] == "query" and said.get("required") and name not in query:
                yield f"Required query parameter is missing: {name}"

    def body_problems(self, method: Method, body: Any) -> Iterator[str]:
        """Yield what is wrong with a request's body."""
        if "request" not in method.said:
            if body is not None:
                yield f"{method.name} takes no body"
        elif not isinstance(body, dict):
            yield f"{method.name} takes a body"
        else:
            yield from self._problems(method.said["request"], body, "resource", method.name)

    def answer_problems(self, method: Method, body: Any) -> Iterator[str]:
        """Yield what is wrong with an answer: what the real cloud would never give."""
        yield from self._problems(method.said["response"], body, "answer", "")

    def _method(self, name: str, said: Mapping[str, Any], base: str) -> Method:
        parts = re.split(r"\{(\w+)\}", f"/{base}{said['flatPath']}")
        path = "".join(
            f"(?P<{part}>{said['parameters'][part]['pattern']})" if number % 2 else re.escape(part)
            for number, part in enumerate(parts)
        )
        return Method(name, said["httpMethod"], re.compile(path), said)

    def _problems(
        self, schema: Mapping[str, Any], value: Any, where: str, method: str
    ) -> Iterator[str]:
        """Yield what is wrong with a value; `method` is the one that is called with it."""
        if "$ref" in schema:
            yield from self._problems(self._schemas[schema["$ref"]], value, where, method)
            return
        kind: Any = _TYPES[schema["type"]]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            yield f"Invalid value for field '{where}': {value!r}. It is no {schema['type']}"
        elif kind is dict:
            yield from self._object_problems(schema, value, where, method)
        elif kind is list:
            # What the document says of the whole list is meant of each of its elements.
            items = dict(schema["items"])
            if "pattern" in schema:
                items["pattern"] = schema["pattern"]
            for number, each in enumerate(value):
                yield from self._problems(items, each, f"{where}[{number}]", method)
        elif kind is str and not _is_legal(schema, value):
            yield f"Invalid value for field '{where}': '{value}'"

    def _object_problems(
        self, schema: Mapping[str, Any], value: dict[str, Any], where: str, method: str
    ) -> Iterator[str]:
        properties = schema.get("properties", {})
        more = schema.get("additionalProperties")
        for key, each in value.items():
            said = properties.get(key, more)
            if said is None:
                yield f"Invalid JSON payload received. Unknown name \"{key}\" at '{where}'"
            else:
                yield from self._problems(said, each, f"{where}.{key}", method)
        for key, said in properties.items():
            if method in said.get("annotations", {}).get("required", ()) and key not in value:
                yield f"Required field '{where}.{key}' not specified"


def _is_legal(schema: Mapping[str, Any], value: str) -> bool:
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        return False
    if schema.get("format") == "byte":
        try:
            base64.urlsafe_b64decode(value)
        except binascii.Error:
            return False
    return schema.get("format") != "uint64" or value.isdecimal()
