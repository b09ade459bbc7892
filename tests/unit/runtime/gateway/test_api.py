"""The HTTP API in front of a client that answers as told."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from runtime.client.request import EndEvent, Event, GenerationRequest, RouteEvent, TokensEvent
from runtime.errors import (
    PeerLostError,
    RequestError,
    RouteError,
    ServerFullError,
    SessionError,
    StagefleetError,
)
from runtime.gateway.api import MAX_BODY_BYTES, application
from runtime.swarm.overview import Known, overview
from runtime.swarm.report import SwarmReport
from runtime.wire.messages import Status
from tests.support.records import info

OWN = info(peer_id="QmOwn", stage=0, start=0, end=8)
OPENED = RouteEvent(route=(), direct=True, prompt_tokens=(1,))
TOKEN = TokensEvent(ids=(7,), text=("x",))
END = EndEvent(
    token_ids=((7,),),
    text=("x",),
    finish_reasons=("length",),
    seed=0,
    prefill_seconds=0.1,
    decode_tokens_per_second=5,
)


class FakeClient:
    """Yields these events, or raises what stands among them."""

    def __init__(self, *script: Event | StagefleetError) -> None:
        self.script = script
        self.asked: list[GenerationRequest] = []
        self.closed = False

    async def route(self, *, now: bool = False) -> tuple[object, ...]:
        del now
        if self.script and isinstance(self.script[0], RouteError):
            raise self.script[0]
        return (1, 2, 3)

    async def swarm(self) -> SwarmReport:
        for step in self.script:
            if isinstance(step, StagefleetError):
                raise step
        return overview(Known(at=1.0, own=OWN, servers=()))

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        self.asked.append(request)
        try:
            for step in self.script:
                if isinstance(step, StagefleetError):
                    raise step
                yield step
        finally:
            self.closed = True


def api(client: FakeClient, host: str = "localhost") -> httpx.AsyncClient:
    app = application(client, lambda: Status("online", 1, 2, 3))  # type: ignore[arg-type]  # a fake
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=f"http://{host}:8080")


async def test_events_come_one_a_line() -> None:
    client = FakeClient(OPENED, TOKEN, END)
    async with api(client) as http:
        answer = await http.post("/generate", json={"prompts": ["a"]})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["event"] for line in lines] == ["route", "tokens", "end"]
    assert client.asked == [GenerationRequest(prompts=("a",))]
    assert client.closed


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError("too long", hint="shorten"), 400),
        (RouteError("nobody serves"), 503),
        (ServerFullError("no room"), 503),
        (PeerLostError("gone"), 502),
        (SessionError("broken"), 502),
    ],
)
async def test_what_fails_before_the_first_token_has_a_status_code(
    error: StagefleetError, code: int
) -> None:
    async with api(FakeClient(error)) as http:
        answer = await http.post("/generate", json={"prompts": ["a"]})
    assert answer.status_code == code
    assert answer.json() == {
        "event": "error",
        "kind": type(error).__name__,
        "message": error.args[0],
        "hint": error.hint,
    }


async def test_what_fails_later_is_the_last_event() -> None:
    client = FakeClient(OPENED, TOKEN, SessionError("stage 2 failed"))
    async with api(client) as http:
        answer = await http.post("/generate", json={"prompts": ["a"]})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["event"] for line in lines] == ["route", "tokens", "error"]
    assert lines[-1]["message"] == "stage 2 failed"
    assert client.closed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nonsense", "JSON"),
        (b"[]", "object"),
        (b'{"prompts": []}', "either prompts or messages"),
        (b'{"prompts": ["a"], "tempreature": 1}', "did you mean 'temperature'"),
        (b'{"prompts": ["' + b"x" * MAX_BODY_BYTES + b'"]}', "larger than 16 MiB"),
    ],
)
async def test_bodies_that_make_no_sense_are_refused(content: bytes, said: str) -> None:
    client = FakeClient(OPENED, END)
    async with api(client) as http:
        answer = await http.post(
            "/generate", content=content, headers={"content-type": "application/json"}
        )
    assert answer.status_code == 400
    assert said in answer.json()["message"]
    assert not client.asked


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_what_a_web_page_could_send_is_refused(kind: str) -> None:
    client = FakeClient(OPENED, END)
    async with api(client) as http:
        answer = await http.post(
            "/generate", content=b'{"prompts": ["a"]}', headers={"content-type": kind}
        )
    assert answer.status_code == 400
    assert not client.asked


async def test_only_loopback_names_are_answered() -> None:
    async with api(FakeClient(OPENED, END), host="rebound.example") as http:
        assert (await http.post("/generate", json={"prompts": ["a"]})).status_code == 400


async def test_health_tells_whether_the_pipeline_is_complete() -> None:
    async with api(FakeClient()) as http:
        answer = await http.get("/health")
        assert answer.status_code == 200
        assert answer.json()["pipeline"] == "complete"
        assert answer.json()["stages"] == 4
    async with api(FakeClient(RouteError("nobody serves [8, 16)"))) as http:
        answer = await http.get("/health")
        assert answer.status_code == 503
        assert "nobody serves [8, 16)" in answer.json()["reason"]


async def test_the_swarm_is_reported_as_its_schema_says() -> None:
    async with api(FakeClient()) as http:
        answer = await http.get("/swarm")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = SwarmReport.model_validate_json(answer.content)
    assert [str(one.blocks) for one in found.missing] == ["[8, 30)"]
    assert found.servers[0].peer_id == "QmOwn"


async def test_a_swarm_that_cannot_be_seen_is_an_error_with_its_kind() -> None:
    async with api(FakeClient(PeerLostError("discovery does not answer", hint="wait"))) as http:
        answer = await http.get("/swarm")
    assert answer.status_code == 502
    assert answer.json()["kind"] == "PeerLostError"
    assert answer.json()["hint"] == "wait"


async def test_the_swarm_is_shown_to_loopback_names_only() -> None:
    async with api(FakeClient(), host="rebound.example") as http:
        assert (await http.get("/swarm")).status_code == 400
