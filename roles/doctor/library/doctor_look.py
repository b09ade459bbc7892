#!/usr/bin/python
"""Runs the doctor's program with the Python that Ansible has found on the host."""

from __future__ import annotations

import json
import subprocess
import sys

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: doctor_look
short_description: What a host says of itself
description:
  - Runs a program of one text that needs nothing but Python, and returns the JSON object that it
    prints.
  - Changes nothing, so it runs in check mode too.
options:
  program:
    type: str
    required: true
    description: The program's text.
  request:
    type: dict
    required: true
    description: What it reads.
  seconds:
    type: int
    required: true
    description: How long it may take.
author: [stagefleet]
"""
EXAMPLES = r"""
- name: Look at the host
  doctor_look:
    program: "{{ doctor_program }}"
    request: "{{ doctor_request }}"
    seconds: 120
"""
RETURN = r"""
seen:
  description: >-
    What the program has printed, and by the controller's clock when it was C(asked) and
    C(answered).
  returned: success
  type: dict
"""


def main() -> None:
    """Run the program."""
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "str", "required": True, "no_log": False},
            "request": {"type": "dict", "required": True},
            "seconds": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", module.params["program"]],
            input=json.dumps(module.params["request"]),
            capture_output=True,
            text=True,
            timeout=module.params["seconds"],
            check=False,
        )
        seen = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        module.fail_json(msg=f"the doctor's program has not ended within {error.timeout} s")
    except ValueError:
        module.fail_json(msg=f"the doctor's program failed: {done.stderr or done.stdout}")
    module.exit_json(changed=False, seen=seen)


if __name__ == "__main__":
    main()
