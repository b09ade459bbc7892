"""Operations of the fake: they are under way for a while, and end well or not."""

from collections.abc import Mapping
from typing import Any, Final

from tests.support.gcp.faults import Fault, Refusal

BASE: Final = "https://www.googleapis.com/compute/v1"
TIME: Final = "2026-01-01T00:00:00.000-07:00"
_LOOKS: Final = 2


class Operations:
    """Those of one project.

    Attributes:
        looks: how often one has to be looked at before it has ended.
    """

    def __init__(self, project: str) -> None:
        self.looks = _LOOKS
        self._project = project
        self._all: dict[str, dict[str, Any]] = {}
        self._left: dict[str, int] = {}

    def begun(
        self,
        method: str,
        where: Mapping[str, str],
        target: Mapping[str, Any],
        fault: Fault | None,
    ) -> dict[str, Any]:
        """Return a new one; with a fault, it will end with that."""
        number = str(9000 + len(self._all))
        name = f"operation-{number}"
        path = f"{BASE}/projects/{self._project}"
        self._left[name] = self.looks
        found = self._all[name] = {
            "kind": "compute#operation",
            "id": number,
            "name": name,
            "operationType": method.rpartition(".")[2],
            "status": "PENDING",
            "progress": 0,
            "insertTime": TIME,
            "user": "somebody@example.com",
            "selfLink": f"{path}/operations/{name}",
        }
        if target:
            found["targetLink"] = target["selfLink"]
        if "zone" in where:
            found["zone"] = f"{path}/zones/{where['zone']}"
        if fault:
            found["error"] = {"errors": [{"code": fault.name, "message": fault.message}]}
            found["httpErrorStatusCode"] = fault.code or 500
        return _seen(found)

    def looked_at(self, where: Mapping[str, str], _: Mapping[str, str]) -> dict[str, Any]:
        """Return one, a step nearer to its end."""
        found = self._all.get(where["operation"])
        zone = str(found.get("zone", "")).rpartition("/")[2] if found else ""
        if found is None or zone != where.get("zone", ""):
            raise Refusal(404, "notFound", "The operation was not found")
        self._left[found["name"]] -= 1
        if self._left[found["name"]] > 0:
            found["status"] = "RUNNING"
        else:
            self.end(found["name"])
        return _seen(found)

    def end(self, name: str) -> None:
        """Bring one to its end that nobody may look at: its name was lost on the way."""
        self._all[name] |= {"status": "DONE", "progress": 100, "endTime": TIME}

    def unfinished(self) -> list[str]:
        """Return those that nobody has waited for."""
        return [name for name, each in self._all.items() if each["status"] != "DONE"]


def _seen(operation: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be seen of an operation: how it ends shows when it has ended."""
    if operation["status"] == "DONE":
        return operation
    hidden = {"error", "httpErrorStatusCode"}
    return {key: each for key, each in operation.items() if key not in hidden}
