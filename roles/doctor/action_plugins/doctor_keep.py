"""Keeps a report of the doctor on the controller, and says what changed since the one before."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible ships no types
    """Contacts no host."""

    def run(self, tmp: object = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the report with its changes: as lines, as data, and its problem."""
        # Loaded when it is used: every worker loads this file.
        from runtime.checks.doctor import history
        from runtime.checks.doctor.finding import Report, compared
        from runtime.checks.doctor.run import told

        result: dict[str, Any] = super().run(tmp, task_vars)
        report = Report.model_validate_json(json.dumps(self._task.args["report"]))
        report = compared(report, history.last(report.fleet, report.moment))
        try:
            history.keep(report)
        except OSError as error:
            return result | {"failed": True, "msg": f"the report cannot be kept: {error}"}
        return result | {"changed": False, **told(report)}
