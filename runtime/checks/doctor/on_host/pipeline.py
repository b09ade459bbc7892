"""What stage 0 says: how it sees the swarm, and a token that goes through all stages."""

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

_SWARM_SECONDS = 20
_TOKEN_SECONDS = 60


def swarm(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of GET /swarm, or why there is none.

    Args:
        asked: "url", the gateway's.
    """
    return _answer(urllib.request.Request(f"{asked['url']}/swarm"), _SWARM_SECONDS)  # noqa: S310 - http, by the plan


def token(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what comes back of a request for one token, and after how long.

    Args:
        asked: "url", the gateway's; "prompt".
    """
    body = {"prompts": [asked["prompt"]], "max_new_tokens": 1, "temperature": 0}
    request = urllib.request.Request(  # noqa: S310 - http, by the plan
        f"{asked['url']}/generate",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    return _answer(request, _TOKEN_SECONDS)


def _answer(request: urllib.request.Request, seconds: float) -> dict[str, Any]:
    # A proxy of the environment knows nothing of this host's loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    start = time.monotonic()
    try:
        with opener.open(request, timeout=seconds) as response:
            lines = response.read().decode().splitlines()
    except urllib.error.HTTPError as error:
        lines = error.read().decode(errors="replace").splitlines()
    except (OSError, ValueError) as error:
        return {"problem": str(getattr(error, "reason", error)), "objects": [], "seconds": 0.0}
    objects = []
    for line in lines:
        with contextlib.suppress(ValueError):
            objects.append(json.loads(line))
    return {"problem": "", "objects": objects, "seconds": time.monotonic() - start}
