"""Keeps a report of the doctor on the controller: the action plugin of this name does it."""

DOCUMENTATION = r"""
module: doctor_keep
short_description: A report of the doctor, kept on the controller
description:
  - Adds what changed since the last report of its kind, and keeps the latest ones.
  - Contacts no host.
options:
  report:
    type: dict
    required: true
    description: The report.
author: [stagefleet]
"""
EXAMPLES = r"""
- name: Keep the report
  doctor_keep:
    report: "{{ doctor_report }}"
"""
RETURN = r"""
lines:
  description: The report for people.
  returned: success
  type: list
problem:
  description: What failed, or nothing.
  returned: success
  type: str
report:
  description: The report with its changes.
  returned: success
  type: dict
"""
