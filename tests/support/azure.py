"""A part of Azure's resource manager on loopback: security groups and network interfaces.

It is weaker evidence than the fakes of other clouds: no description of Azure's API is to be had
that is independent of its client library, so the library both writes what is sent and checks its
shape here. What Azure allows besides (priorities, names, references) is written down from its
documentation and from reports of its refusals; nobody has compared this with the real service.
"""

import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from tests.support.azure_checks import (
    KINDS,
    MODELS,
    NIC,
    NSG,
    Json,
    Refusal,
    check_addresses,
    check_name,
    check_rules,
    check_shape,
    references,
)

SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000001"
GROUP: Final = "gpus"
SCOPE: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
PROVIDER: Final = f"{SCOPE}/providers/Microsoft.Network"


Answer = tuple[int, dict[str, str], Json | None]

_PAGE: Final = 2
_RESOURCE: Final = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourcegroups/(?P<group>[^/]+)/providers"
    r"/microsoft\.network/(?P<kind>[^/]+)(/(?P<name>[^/]+))?",
    re.IGNORECASE,
)
_OPERATION: Final = re.compile(r"/subscriptions/[^/]+/providers/[^/]+/locations/[^/]+/operations/")


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one call.

    Attributes:
        status: of the answer; 0: the connection is cut instead.
        code: Azure's name of the error.
        after: what was asked for is done all the same.
        operation: the call is answered well, and the operation that it starts fails.
        headers: of the answer.
    """

    status: int = 0
    code: str = "InternalServerError"
    message: str = "it is scripted"
    after: bool = False
    operation: bool = False
    headers: dict[str, str] = field(default_factory=dict)


class FakeAzure:
    """What one resource group holds, and who has asked.

    Attributes:
        things: by kind and by name in lower case.
        calls: the method and the path of every request, polls of operations too.
        faults: what goes wrong, by the number of the call, counted from 0.
        before: is called with the method, kind and name before a request is looked at: somebody
            else, who changes something at just that moment.
        looks: how often an operation is looked at before it has ended.
    """

    def __init__(self) -> None:
        self.things: dict[str, dict[str, Json]] = {kind: {} for kind in MODELS}
        self.calls: list[tuple[str, str]] = []
        self.faults: dict[int, Fault] = {}
        self.before: Callable[[str, str, str], None] = lambda *_: None
        self.looks = 1
        self.endpoint = ""
        self._versions = itertools.count(1)
        self._operations: dict[str, Json] = {}
        self._lock = threading.RLock()

    def counts(self) -> Counter[str]:
        """Return how many requests of each method there were."""
        return Counter(method for method, _ in self.calls)

    def put(self, kind: str, name: str, body: Json) -> Json:
        """Make or change a thing by hand, by the rules that hold for everybody.

        Raises:
            Refusal: the rules do not allow it.
        """
        with self._lock:
            self._check(kind, name, body)
            thing: Json = json.loads(json.dumps(body))
            thing |= {
                "id": f"{PROVIDER}/{kind}/{name}",
                "name": name,
                "type": f"Microsoft.Network/{kind}",
                "etag": f'W/"{next(self._versions)}"',
            }
            properties = thing.setdefault("properties", {})
            properties["provisioningState"] = "Succeeded"
            if kind == NSG:
                self._complete(thing)
            self.things[kind][name.lower()] = thing
            return thing

    def interface(self, host: str, fleet: str = "lab", addresses: int = 1, **more: Any) -> Json:
        """Make the network interface of a host of a fleet."""
        configurations = [
            {
                "name": f"address-{number}",
                "properties": {"primary": number == 0, "privateIPAllocationMethod": "Dynamic"},
            }
            for number in range(addresses)
        ]
        body = {
            "location": "westeurope",
            "tags": {"stagefleet-fleet": fleet, "stagefleet-host": host, "room": "7"},
            "properties": {"ipConfigurations": configurations} | more,
        }
        return self.put(NIC, f"{host}-nic", body)

    def rules(self, name: str) -> list[Json]:
        """Return the rules of a network security group."""
        rules: list[Json] = self.things[NSG][name]["properties"]["securityRules"]
        return rules

    def change(self, name: str, change: Callable[[list[Json]], list[Json]]) -> None:
        """Change the rules of a network security group by hand."""
        thing = self.things[NSG][name]
        rules = change(json.loads(json.dumps(self.rules(name))))
        body = {key: thing[key] for key in ("location", "tags") if key in thing}
        self.put(NSG, name, body | {"properties": {"securityRules": rules}})

    def answer(self, method: str, url: str, headers: Any, body: Json | None) -> Answer:
        """Return the status, the headers and the body of an answer."""
        with self._lock:
            number = len(self.calls)
            split = urlsplit(url)
            self.calls.append((method, split.path))
            fault = self.faults.get(number)
            if fault and not (fault.after or fault.operation):
                return _faulty(fault)
            try:
                answer = self._answer(method, split, headers, body, fault)
            except Refusal as refusal:
                return _refused(refusal)
            return _faulty(fault) if fault and fault.after else answer

    def _answer(
        self, method: str, split: Any, headers: Any, body: Json | None, fault: Fault | None
    ) -> Answer:
        query = parse_qs(split.query)
        if _OPERATION.match(split.path):
            return self._poll(split.path)
        if "api-version" not in query:
            raise Refusal(400, "MissingApiVersionParameter")
        found = _RESOURCE.fullmatch(split.path)
        if found is None or found["kind"].lower() not in KINDS:
            raise Refusal(404, "InvalidResourceType")
        if found["subscription"] != SUBSCRIPTION:
            raise Refusal(404, "SubscriptionNotFound")
        if found["group"].lower() != GROUP:
            raise Refusal(404, "ResourceGroupNotFound")
        kind, name = KINDS[found["kind"].lower()], found["name"]
        self.before(method, kind, name or "")
        if name is None:
            return self._list(kind, int(query.get("$skiptoken", ["0"])[0]))
        if method == "GET":
            return 200, {}, self._shown(self._there(kind, name))
        if method == "PUT":
            return self._write(kind, name, headers, body or {}, fault)
        if method == "DELETE":
            return self._delete(kind, name, fault)
        raise Refusal(405, "MethodNotAllowed")

    def _there(self, kind: str, name: str) -> Json:
        if name.lower() not in self.things[kind]:
            raise Refusal(404, "ResourceNotFound")
        return self.things[kind][name.lower()]

    def _list(self, kind: str, start: int) -> Answer:
        names = sorted(self.things[kind])
        page: Json = {
            "value": [self._shown(self.things[kind][name]) for name in names[start : start + _PAGE]]
        }
        if start + _PAGE < len(names):
            page["nextLink"] = (
                f"{self.endpoint}{PROVIDER}/{kind}?api-version=any&$skiptoken={start + _PAGE}"
            )
        return 200, {}, page

    def _write(self, kind: str, name: str, headers: Any, body: Json, fault: Fault | None) -> Answer:
        before = self.things[kind].get(name.lower())
        asked = headers.get("If-Match")
        if asked and (before is None or asked != before["etag"]):
            raise Refusal(412, "PreconditionFailed", "the etag is not the current one")
        if before and body.get("location") != before["location"]:
            raise Refusal(409, "InvalidResourceLocation")
        if fault is None or not fault.operation:
            thing = self.put(kind, name, body)
        else:
            self._check(kind, name, body)
            thing = before or body
        return (200 if before else 201), self._start(fault), self._shown(thing)

    def _delete(self, kind: str, name: str, fault: Fault | None) -> Answer:
        if name.lower() not in self.things[kind]:
            return 204, {}, None
        users = list(self._users(f"{PROVIDER}/{kind}/{name}".lower()))
        if users:
            short = kind[0].upper() + kind[1:-1]
            raise Refusal(400, f"InUse{short}CannotBeDeleted", f"it is used by {users[0]}")
        if fault is None or not fault.operation:
            del self.things[kind][name.lower()]
        return 202, self._start(fault), None

    def _start(self, fault: Fault | None) -> dict[str, str]:
        """Return the headers that name an operation, which takes two looks to end."""
        path = (
            f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Network/locations/westeurope"
            f"/operations/{len(self._operations)}"
        )
        end: Json = {"status": "Succeeded"}
        if fault and fault.operation:
            error = {"code": fault.code, "message": fault.message}
            end = {"status": "Failed", "error": error}
        self._operations[path] = {"looks": self.looks, "end": end}
        where = f"{self.endpoint}{path}?api-version=any"
        return {"Azure-AsyncOperation": where, "Location": where, "Retry-After": "0"}

    def _poll(self, path: str) -> Answer:
        operation = self._operations[path]
        if operation["looks"]:
            operation["looks"] -= 1
            return 200, {"Retry-After": "0"}, {"status": "InProgress"}
        return 200, {}, operation["end"]

    def _shown(self, thing: Json) -> Json:
        """Return a thing as answers do: with what refers to it, and Azure's own rules."""
        shown: Json = json.loads(json.dumps(thing))
        if "/networkSecurityGroups/" in shown.get("id", ""):
            users = [{"id": user} for user in self._users(shown["id"].lower())]
            shown["properties"] |= {"networkInterfaces": users} if users else {}
            shown["properties"]["defaultSecurityRules"] = [
                _default("AllowVnetInBound", 65000, "Allow", "VirtualNetwork"),
                _default("DenyAllInBound", 65500, "Deny", "*"),
            ]
        return shown

    def _complete(self, thing: Json) -> None:
        for rule in thing["properties"].setdefault("securityRules", []):
            properties = rule["properties"]
            rule["id"] = f"{thing['id']}/securityRules/{rule['name']}"
            rule["etag"] = thing["etag"]
            rule["type"] = "Microsoft.Network/networkSecurityGroups/securityRules"
            properties["provisioningState"] = "Succeeded"
            # Azure gives lists that nobody has named, and one of a list by itself.
            for one, many in (("sourceAddressPrefix", "sourceAddressPrefixes"),):
                values = properties.get(many) or []
                if len(values) == 1 and not properties.get(one):
                    properties[one], values = values[0], []
                properties[many] = values

    def _users(self, thing: str) -> Iterator[str]:
        """Yield the ids of what refers to a thing."""
        for interface in self.things[NIC].values():
            if thing in references(interface):
                yield interface["id"]
        for group in self.things[NSG].values():
            for rule in group["properties"]["securityRules"]:
                if thing in references(rule["properties"]):
                    yield rule["id"]

    def _check(self, kind: str, name: str, body: Json) -> None:
        check_shape(MODELS[kind], body, kind)
        if not body.get("location"):
            raise Refusal(400, "LocationRequired")
        check_name(name)
        for reference in references(body.get("properties") or {}):
            owner = reference.rpartition("/")
            other = KINDS[owner[0].rpartition("/")[2]]
            if reference != f"{PROVIDER}/{other}/{owner[2]}".lower() or (
                owner[2] not in self.things[other]
            ):
                raise Refusal(400, "InvalidResourceReference", reference)
        if kind == NSG:
            check_rules((body.get("properties") or {}).get("securityRules") or [])
        if kind == NIC:
            check_addresses(body["properties"]["ipConfigurations"])


def _default(name: str, priority: int, access: str, source: str) -> Json:
    return {
        "name": name,
        "properties": {
            "access": access,
            "direction": "Inbound",
            "priority": priority,
            "protocol": "*",
            "sourceAddressPrefix": source,
            "sourcePortRange": "*",
            "destinationAddressPrefix": source,
            "destinationPortRange": "*",
        },
    }


def _refused(refusal: Refusal) -> Answer:
    return refusal.status, {}, {"error": {"code": refusal.code, "message": str(refusal)}}


def _faulty(fault: Fault) -> Answer:
    body = {"error": {"code": fault.code, "message": fault.message}}
    return fault.status, fault.headers, body


class _Handler(BaseHTTPRequestHandler):
    # Without both of these, every answer waits for the client's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"
    fake: FakeAzure

    def do_GET(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        status, headers, answer = self.fake.answer(self.command, self.path, self.headers, body)
        if not status:
            self.close_connection = True
            return
        text = json.dumps(answer).encode() if answer is not None else b""
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Say nothing: a test that fails shows the calls."""


@contextmanager
def fake_azure() -> Iterator[FakeAzure]:
    """Serve an empty resource group on a free port of this machine."""
    fake = FakeAzure()
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    # Clients keep connections open, which nobody should wait for.
    server.block_on_close = False
    fake.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
