"""Runs the module of the same name, and says when it was asked and when it answered."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible ships no types
    """Between the two times, by this clock, lies everything that the host did."""

    def run(self, tmp: object = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result with the times in it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        asked = time.time()
        result |= self._execute_module(module_name="doctor_look", task_vars=task_vars)
        if "seen" in result:
            result["seen"] = result["seen"] | {"asked": asked, "answered": time.time()}
        return result
