#!/usr/bin/python
"""Asks a host about its GPUs; what to ask is decided elsewhere, and nothing here knows a GPU."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: cuda_look
short_description: What programs and files of a host say
description:
  - Runs programs and reads files. Changes nothing.
options:
  questions:
    type: dict
    required: true
    description: C(probes), the programs to run, and C(files), patterns of paths.
author: [stagefleet]
"""
EXAMPLES = r"""
- name: Ask for the kernel's release
  cuda_look:
    questions:
      probes: [{name: kernel, command: [uname, -r], needs: ""}]
      files: []
"""
RETURN = r"""
seen:
  description: What the host answered.
  returned: success
  type: dict
"""

# nvidia-smi hangs where a card has fallen off its bus.
SECONDS = 30
# In characters; lists of packages are the longest answers.
LONGEST = 2**20


def main() -> None:
    """Answer the questions."""
    module = AnsibleModule(
        argument_spec={"questions": {"type": "dict", "required": True}}, supports_check_mode=True
    )
    asked = module.params["questions"]
    seen = {
        "answers": {probe["name"]: answer(probe["command"]) for probe in asked["probes"]},
        "files": {
            str(path): text_of(path)
            for pattern in asked["files"]
            for path in Path("/").glob(pattern.lstrip("/"))
        },
    }
    module.exit_json(changed=False, seen=seen)


def answer(command: list[str]) -> dict[str, Any]:
    """Return what a program says; code None: there is none."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin:/usr/sbin:/sbin"))
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PATH": path, "LC_ALL": "C", "LANG": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return {"code": None, "output": "", "error": ""}
    except subprocess.TimeoutExpired:
        said = f"{command[0]} has not ended within {SECONDS} s"
        return {"code": 124, "output": "", "error": said}
    return {
        "code": done.returncode,
        "output": done.stdout[:LONGEST],
        "error": done.stderr[:LONGEST],
    }


def text_of(path: Path) -> str:
    """Return what is in a file; of what is none, nothing."""
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(LONGEST)


if __name__ == "__main__":
    main()
