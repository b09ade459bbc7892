"""The other end of the HTTP API: a request's events, or the error that ended it.

httpx is loaded when it is used: every command of a host loads this module, and few use it.
"""

import json
from collections.abc import Generator, Mapping
from typing import Any

from pydantic import ValidationError

from runtime import errors
from runtime.errors import PeerLostError, SessionError, StagefleetError, VersionError
from runtime.swarm.report import SwarmReport

_OK, _JSON = 200, "application/json"
_RUNNING = "is the fleet running? stagefleet service status --inventory <site>"
_CONNECT_SECONDS = 5
# Stage 0 itself bounds how long a step may take; this only ends a wait on a machine that hangs.
_SILENCE_SECONDS = 600


def events(base: str, request: Mapping[str, object]) -> Generator[dict[str, Any], None, None]:
    """Yield the events of a generation as they come.

    Raises:
        PeerLostError: the gateway cannot be reached, or went away.
        StagefleetError: what the gateway reports.
    """
    import httpx

    timeout = httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
    try:
        with httpx.stream("POST", f"{base}/generate", json=request, timeout=timeout) as response:
            for line in response.iter_lines():
                event = json.loads(line)
                if event["event"] == "error":
                    raise _as_error(event)
                yield event
    except httpx.ConnectError:
        raise PeerLostError(
            f"no gateway answers at {base}",
            hint=_RUNNING,
        ) from None
    except httpx.HTTPError as error:
        raise PeerLostError(f"the gateway at {base} went away: {error}") from error


def health(base: str, seconds: float) -> dict[str, Any]:
    """Return what the gateway says of the pipeline.

    Raises:
        PeerLostError: it cannot be reached.
    """
    import httpx

    try:
        found: dict[str, Any] = httpx.get(f"{base}/health", timeout=seconds).json()
    except (httpx.HTTPError, ValueError) as error:
        raise PeerLostError(f"no gateway answers at {base}: {error}") from error
    return found


def swarm(base: str, seconds: float) -> SwarmReport:
    """Return what the gateway says of the swarm.

    Raises:
        PeerLostError: it cannot be reached.
        VersionError: it is of a release that has no such report, or another one.
        StagefleetError: what the gateway reports.
    """
    import httpx

    try:
        answer = httpx.get(f"{base}/swarm", timeout=seconds)
        if answer.status_code != _OK and answer.headers.get("content-type") == _JSON:
            raise _as_error(answer.json())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise PeerLostError(f"no gateway answers at {base}: {error}", hint=_RUNNING) from error
    try:
        return SwarmReport.model_validate_json(answer.content)
    except ValidationError:
        raise VersionError(
            f"what answers at {base} has no report on a swarm that this release can read",
            hint="deploy this release to stage 0's host: ./fleet deploy --inventory <site>",
        ) from None


def _as_error(event: Mapping[str, Any]) -> StagefleetError:
    known = event["kind"] in errors.__all__
    kind = getattr(errors, event["kind"]) if known else SessionError
    found: StagefleetError = kind(event["message"], hint=event.get("hint", ""))
    return found
