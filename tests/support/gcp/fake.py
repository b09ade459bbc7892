"""A part of Google's compute API on loopback: networks, firewalls, instances, operations.

Routes, parameters and shapes are Google's own, from its discovery document; its own answers are
held against that, too. What the document does not say (`semantics.py`, filters, fingerprints, when
operations end) is this project's understanding of the real one.
"""

import base64
import hashlib
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.gcp import machines
from tests.support.gcp.discovery import Discovery, Method
from tests.support.gcp.faults import Fault, Refusal, error_of, raise_fault
from tests.support.gcp.operations import BASE, TIME, Operations
from tests.support.gcp.semantics import firewall_problems, tag_problems


@dataclass
class Compute:
    """What one project has, and how it answers.

    Attributes:
        page: the most that one page of a list has.
        quota: how many firewalls the project may have.
        calls: the methods that were called, in their order.
        faults: what goes wrong with the next calls of a method; "*" is any method.
        fault_at: what goes wrong with the call of a number, counted from 0.
        defects: what this fake has done wrong, or was done with it that must never be.
    """

    project: str = "some-lab"
    networks: set[str] = field(default_factory=lambda: {"default", "gpus"})
    firewalls: dict[str, dict[str, Any]] = field(default_factory=dict)
    machines: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    page: int = 500
    quota: int = 1000
    calls: list[str] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    fault_at: dict[int, Fault] = field(default_factory=dict)
    defects: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._discovery = Discovery()
        self._requests: dict[str, tuple[str, dict[str, Any]]] = {}
        self.operations = Operations(self.project)
        self._count = 0
        self._lock = threading.Lock()
        self._answers: dict[str, Callable[..., dict[str, Any]]] = {
            "compute.networks.get": self._network,
            "compute.firewalls.get": self._firewall,
            "compute.firewalls.list": self._list,
            "compute.instances.get": self._instance,
            "compute.instances.aggregatedList": self._aggregated,
            "compute.globalOperations.get": self.operations.looked_at,
            "compute.globalOperations.wait": self.operations.looked_at,
            "compute.zoneOperations.get": self.operations.looked_at,
            "compute.zoneOperations.wait": self.operations.looked_at,
        }
        self._writes: dict[str, Callable[..., dict[str, Any]]] = {
            "compute.firewalls.insert": self._insert,
            "compute.firewalls.update": self._update,
            "compute.firewalls.patch": self._patch,
            "compute.firewalls.delete": self._delete,
            "compute.instances.setTags": self._set_tags,
            "compute.instances.insert": self._insert_instance,
            "compute.instances.delete": self._delete_instance,
            "compute.instances.start": self._start_instance,
            "compute.instances.stop": self._stop_instance,
        }

    def add_firewall(self, name: str, network: str = "gpus", **more: Any) -> dict[str, Any]:
        """Make a firewall by hand: of somebody else, if `more` does not say otherwise."""
        body = {"name": name, "network": f"global/networks/{network}"} | more
        self._insert({}, {}, body)
        return self.firewalls[name]

    def add_instance(
        self, name: str, tags: Iterable[str] = (), network: str = "gpus", **labels: str
    ) -> None:
        """Make an instance by hand; labels with "_" for "-" in their names."""
        zone = f"europe-west4-{'abc'[len(self.machines) % 3]}"
        self.machines[zone, name] = {
            "kind": "compute#instance",
            "id": self._number(),
            "name": name,
            "zone": f"{BASE}/projects/{self.project}/zones/{zone}",
            "status": "RUNNING",
            "labels": {key.replace("_", "-"): value for key, value in labels.items()},
            "tags": _with_fingerprint(list(tags)),
            "networkInterfaces": [{"name": "nic0", "network": self._network_link(network)}],
            "selfLink": f"{BASE}/projects/{self.project}/zones/{zone}/instances/{name}",
        }

    def tags_of(self, name: str) -> set[str]:
        """Return an instance's network tags."""
        (found,) = [each for (_, other), each in self.machines.items() if other == name]
        return set(found["tags"].get("items", []))

    def unfinished(self) -> list[str]:
        """Return the operations that were begun and that nobody has waited for."""
        return self.operations.unfinished()

    def answer(
        self, verb: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: Any
    ) -> tuple[int, dict[str, Any]]:
        """Return the code and the body of an answer.

        Raises:
            HangUpError: no answer is given.
        """
        with self._lock:
            try:
                return 200, self._answer(verb, path, query, headers, body)
            except Refusal as refusal:
                return refusal.code, error_of(refusal)

    def _answer(
        self, verb: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: Any
    ) -> dict[str, Any]:
        if "authorization" in {name.lower() for name in headers}:
            self.defects.append("credentials were sent over plain http")
        found = self._discovery.find(verb, path)
        if found is None:
            self.defects.append(f"no such call: {verb} {path}")
            raise Refusal(404, "notFound", "Not Found")
        method, where = found
        number = len(self.calls)
        self.calls.append(method.name)
        fault = self.fault_at.get(number) or self._fault(method)
        if fault and not fault.made and not fault.later:
            raise_fault(fault)
        problems = [
            *self._discovery.query_problems(method, query),
            *self._discovery.body_problems(method, body),
        ]
        if problems:
            raise Refusal(400, "invalid", "; ".join(problems))
        if where["project"] != self.project:
            name = where["project"]
            raise Refusal(404, "notFound", f"The resource 'projects/{name}' was not found")
        result = self._result(method, where, query, body, fault if fault and fault.later else None)
        self.defects += [
            f"{method.name}: {each}" for each in self._discovery.answer_problems(method, result)
        ]
        if fault and fault.made:
            if result["kind"] == "compute#operation":
                self.operations.end(result["name"])
            raise_fault(fault)
        return result

    def _fault(self, method: Method) -> Fault | None:
        for name in (method.name, "*"):
            if self.faults.get(name):
                return self.faults[name].pop(0)
        return None

    def _result(
        self,
        method: Method,
        where: Mapping[str, str],
        query: Mapping[str, str],
        body: Any,
        fault: Fault | None,
    ) -> dict[str, Any]:
        if method.name in self._answers:
            return self._answers[method.name](where, query)
        known = self._known(method, query)
        if known is not None:
            return known
        target: dict[str, Any] = {}
        if fault is None:
            target = self._writes[method.name](where, query, body)
        operation = self.operations.begun(method.name, where, target, fault)
        self._requests[query["requestId"]] = (method.name, operation)
        return operation

    def _known(self, method: Method, query: Mapping[str, str]) -> dict[str, Any] | None:
        """Return the operation of a request that was made before, under the same id."""
        identity = query.get("requestId")
        if identity is None:
            # It may be left out; this project never should.
            self.defects.append(f"{method.name} without a requestId")
            raise Refusal(400, "invalid", "requestId")
        try:
            if uuid.UUID(identity).int == 0:
                raise ValueError
        except ValueError:
            raise Refusal(400, "invalid", f"requestId is no UUID: {identity}") from None
        if identity not in self._requests:
            return None
        name, operation = self._requests[identity]
        if name != method.name:
            raise Refusal(400, "invalid", "requestId was used for something else")
        return operation

    def _network(self, where: Mapping[str, str], _: Mapping[str, str]) -> dict[str, Any]:
        link = self._network_link(where["network"])
        return {
            "kind": "compute#network",
            "id": "1",
            "name": where["network"],
            "selfLink": link,
            "autoCreateSubnetworks": True,
        }

    def _network_link(self, network: str) -> str:
        name = network.rpartition("/")[2]
        path = f"projects/{self.project}/global/networks/{name}"
        # Addresses may be whole or parts; what they end with has to be right.
        if name not in self.networks or not f"/{path}".endswith(f"/{network.split('/v1/')[-1]}"):
            raise Refusal(404, "notFound", f"The resource '{path}' was not found")
        return f"{BASE}/{path}"

    def _firewall(self, where: Mapping[str, str], _: Mapping[str, str]) -> dict[str, Any]:
        if where["firewall"] not in self.firewalls:
            path = f"projects/{self.project}/global/firewalls/{where['firewall']}"
            raise Refusal(404, "notFound", f"The resource '{path}' was not found")
        return self.firewalls[where["firewall"]]

    def _list(self, _: Mapping[str, str], query: Mapping[str, str]) -> dict[str, Any]:
        if "filter" in query:
            raise Refusal(400, "invalid", "this fake knows no filters of firewalls")
        found, more = self._page_of(
            [self.firewalls[name] for name in sorted(self.firewalls)], query
        )
        return {"kind": "compute#firewallList", "items": found} | more

    def _instance(self, where: Mapping[str, str], _: Mapping[str, str]) -> dict[str, Any]:
        key = (where["zone"], where["instance"])
        if key not in self.machines:
            path = f"projects/{self.project}/zones/{key[0]}/instances/{key[1]}"
            raise Refusal(404, "notFound", f"The resource '{path}' was not found")
        return self.machines[key]

    def _aggregated(self, _: Mapping[str, str], query: Mapping[str, str]) -> dict[str, Any]:
        machines = [self.machines[key] for key in sorted(self.machines)]
        if "filter" in query:
            said = re.fullmatch(r'labels\.([a-z][-_a-z0-9]{0,62}) = "([^"]*)"', query["filter"])
            if not said:
                raise Refusal(400, "invalid", f"Invalid list filter expression {query['filter']}")
            machines = [each for each in machines if each["labels"].get(said[1]) == said[2]]
        found, more = self._page_of(machines, query)
        zones: dict[str, Any] = {}
        for each in found:
            zone = zones.setdefault(f"zones/{each['zone'].rpartition('/')[2]}", {"instances": []})
            zone["instances"].append(each)
        # Zones without any are there too, and say so.
        warning = {"code": "NO_RESULTS_ON_PAGE", "message": "There are no results for scope."}
        zones["zones/us-east1-b"] = {"warning": warning}
        return {"kind": "compute#instanceAggregatedList", "items": zones} | more

    def _page_of(
        self, found: list[dict[str, Any]], query: Mapping[str, str]
    ) -> tuple[list[dict[str, Any]], dict[str, str]]:
        size = min(self.page, int(query.get("maxResults", "500")))
        start = int(query.get("pageToken", "0"))
        more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
        return found[start : start + size], more

    def _insert(
        self, _: Mapping[str, str], __: Mapping[str, str], body: dict[str, Any]
    ) -> dict[str, Any]:
        name = body["name"]
        if name in self.firewalls:
            path = f"projects/{self.project}/global/firewalls/{name}"
            raise Refusal(409, "alreadyExists", f"The resource '{path}' already exists")
        made = self._made(body)
        if len(self.firewalls) >= self.quota:
            raise Refusal(
                403,
                "quotaExceeded",
                f"Quota 'FIREWALLS' exceeded.  Limit: {self.quota}.0 globally.",
            )
        self.firewalls[name] = made
        return made

    def _update(
        self, where: Mapping[str, str], query: Mapping[str, str], body: dict[str, Any]
    ) -> dict[str, Any]:
        there = self._firewall(where, query)
        made = self._made({"name": there["name"], "network": there["network"]} | body)
        if (made["name"], made["network"]) != (there["name"], there["network"]):
            raise Refusal(400, "invalid", "Name and network cannot be changed")
        self.firewalls[there["name"]] = made | {"id": there["id"]}
        return made

    def _patch(
        self, where: Mapping[str, str], query: Mapping[str, str], body: dict[str, Any]
    ) -> dict[str, Any]:
        return self._update(where, query, self._firewall(where, query) | body)

    def _delete(
        self, where: Mapping[str, str], query: Mapping[str, str], _: None
    ) -> dict[str, Any]:
        self._firewall(where, query)
        return self.firewalls.pop(where["firewall"])

    def _made(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a firewall as it is kept: with defaults, and without what is empty."""
        problems = list(firewall_problems(body))
        if problems:
            raise Refusal(400, "invalid", "; ".join(problems))
        made = {"priority": 1000, "direction": "INGRESS", "disabled": False}
        made |= {"logConfig": {"enable": False}}
        made |= {key: value for key, value in body.items() if value not in ([], "")}
        sources = {"sourceRanges", "sourceTags", "sourceServiceAccounts"}
        if made["direction"] == "INGRESS" and not sources & made.keys():
            made["sourceRanges"] = ["0.0.0.0/0"]
        return made | {
            "kind": "compute#firewall",
            "id": self._number(),
            "creationTimestamp": TIME,
            "network": self._network_link(body.get("network", "global/networks/default")),
            "selfLink": f"{BASE}/projects/{self.project}/global/firewalls/{body['name']}",
        }

    def _set_tags(
        self, where: Mapping[str, str], query: Mapping[str, str], body: dict[str, Any]
    ) -> dict[str, Any]:
        machine = self._instance(where, query)
        if body.get("fingerprint") != machine["tags"]["fingerprint"]:
            raise Refusal(
                412, "conditionNotMet", "Supplied fingerprint does not match current tags"
            )
        tags = body.get("items", [])
        problems = list(tag_problems(tags, "items", 64))
        if problems:
            raise Refusal(400, "invalid", "; ".join(problems))
        machine["tags"] = _with_fingerprint(tags)
        return machine

    def _insert_instance(
        self, where: Mapping[str, str], _: Mapping[str, str], body: dict[str, Any]
    ) -> dict[str, Any]:
        key = (where["zone"], body["name"])
        if key in self.machines:
            path = f"projects/{self.project}/zones/{key[0]}/instances/{key[1]}"
            raise Refusal(409, "alreadyExists", f"The resource '{path}' already exists")
        for refusal in machines.insert_problems(where["zone"], body):
            raise refusal
        for card in body["networkInterfaces"]:
            card["network"] = self._network_link(card["network"])
        found = machines.made(self.project, where["zone"], body, int(self._number()))
        found["tags"] = _with_fingerprint(body["tags"].get("items", []))
        self.machines[key] = found
        return found

    def _delete_instance(
        self, where: Mapping[str, str], query: Mapping[str, str], _: None
    ) -> dict[str, Any]:
        self._instance(where, query)
        return self.machines.pop((where["zone"], where["instance"]))

    def _start_instance(
        self, where: Mapping[str, str], query: Mapping[str, str], _: None
    ) -> dict[str, Any]:
        machines.started(self._instance(where, query), int(self._number()))
        return self._instance(where, query)

    def _stop_instance(
        self, where: Mapping[str, str], query: Mapping[str, str], _: None
    ) -> dict[str, Any]:
        machines.stopped(self._instance(where, query))
        return self._instance(where, query)

    def _number(self) -> str:
        self._count += 1
        return str(1000 + self._count)


def _with_fingerprint(tags: list[str]) -> dict[str, Any]:
    digest = hashlib.sha256("\n".join(tags).encode()).digest()[:8]
    found: dict[str, Any] = {"fingerprint": base64.urlsafe_b64encode(digest).decode()}
    # Like the real one: a list that is empty is not there.
    return found | ({"items": tags} if tags else {})
