#!/usr/bin/python
"""Looks at a host's firewall, and carries out a change of it that undoes itself unless confirmed.

What to ask, what to do and how to undo it is decided elsewhere; nothing here knows a firewall.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_firewall
short_description: A change of a host's firewall that undoes itself unless it is confirmed
description:
  - Asks a host about its firewall, changes it, or confirms the change over a new connection.
options:
  action:
    type: str
    required: true
    choices: [look, apply, confirm, undo]
    description: What to do.
  questions:
    type: dict
    description: For C(look), the programs to run and the files to read.
  change:
    type: dict
    description: For C(apply), what to check, to save and to do.
  arming:
    type: dict
    description: For C(apply), the files that undo it, by path.
author: [stagefleet]
"""
EXAMPLES = r"""
- name: Keep the change
  host_firewall:
    action: confirm
"""
RETURN = r"""
seen:
  description: For C(look), what the host answered.
  returned: success
  type: dict
"""

STATE = Path("/var/lib/stagefleet-firewall")
ARMED = STATE / "armed"
LOCK = Path("/run/stagefleet-firewall.lock")
UNDO = "stagefleet-firewall-undo"
UNITS = Path("/etc/systemd/system")
# Tools rewrite their files in place, and so would undoing; a full disk would leave half of them.
NEEDED_BYTES = 8 * 2**20
# In characters; files of a firewall's configuration are far shorter.
LONGEST = 2**20


class StepError(Exception):
    """A step, or a tool's own check, has failed; its text is for the operator."""


class NotStartedError(StepError):
    """Nothing was changed: somebody else's change is not confirmed yet, or there is no room."""


def main() -> None:
    """Do what is asked."""
    actions = {"look": look, "apply": apply, "confirm": confirm, "undo": undo}
    module = AnsibleModule(
        argument_spec={
            "action": {"type": "str", "required": True, "choices": list(actions)},
            "questions": {"type": "dict"},
            "change": {"type": "dict"},
            "arming": {"type": "dict"},
        },
        required_if=[("action", "look", ["questions"]), ("action", "apply", ["change", "arming"])],
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C", "LANG": "C"}
    try:
        actions[module.params["action"]](module)
    except (StepError, OSError) as error:
        module.fail_json(msg=str(error))


def look(module: AnsibleModule) -> None:
    """Answer the questions; nothing changes."""
    asked = module.params["questions"]
    answers: dict[str, dict[str, Any]] = {}
    for probe in asked["probes"]:
        if probe["needs"] and answers.get(probe["needs"], {}).get("code") != 0:
            continue
        code, output, error = None, "", ""
        if module.get_bin_path(probe["command"][0], opt_dirs=["/usr/sbin", "/sbin"]):
            code, output, error = module.run_command(probe["command"])
        answers[probe["name"]] = {"code": code, "output": output, "error": error}
    files = {
        str(path): text_of(path)
        for pattern in asked["files"]
        for path in Path("/").glob(pattern.lstrip("/"))
    }
    module.exit_json(changed=False, seen={"answers": answers, "files": files})


def apply(module: AnsibleModule) -> None:
    """Check, arm, and take the steps; where one fails, what was done is undone at once."""
    change = module.params["change"]
    diff = [
        {
            "before_header": one["what"],
            "after_header": one["what"],
            "before": one["before"],
            "after": one["after"],
        }
        for one in change["differences"]
    ]
    if module.check_mode:
        module.exit_json(changed=True, diff=diff)
    for check in change["checks"]:
        ask(module, check)
    try:
        with locked():
            if ARMED.exists():
                raise NotStartedError(
                    "another change of this host's firewall waits to be confirmed; within a minute "
                    "it is confirmed or undone: run this again then. Nothing was changed"
                )
            require_room(change["saved"])
            arm(module, change["saved"], module.params["arming"])
            for step in change["steps"]:
                take(module, step)
    except NotStartedError:
        raise
    except (StepError, OSError) as error:
        problem = undone(module)
        module.fail_json(msg=f"{error}; {problem or 'the firewall is as it was before'}")
    module.exit_json(changed=True, diff=diff)


def confirm(module: AnsibleModule) -> None:
    """Keep the change: disarm what would undo it."""
    with locked():
        if not ARMED.exists():
            raise StepError("the change was undone before it could be confirmed")
        ARMED.unlink()
        module.run_command(["systemctl", "stop", f"{UNDO}.timer"])
        module.run_command(["systemctl", "disable", "--quiet", f"{UNDO}.service"])
        for suffix in ("timer", "service"):
            (UNITS / f"{UNDO}.{suffix}").unlink()
        shutil.rmtree(STATE)
        module.run_command(["systemctl", "daemon-reload"])
    module.exit_json(changed=True)


def undo(module: AnsibleModule) -> None:
    """Undo the change now, if it is not undone yet."""
    waits = ARMED.exists()
    problem = undone(module)
    if problem:
        raise StepError(problem)
    module.exit_json(changed=waits)


def ask(module: AnsibleModule, check: dict[str, Any]) -> None:
    """Let a tool check files in a directory of their own."""
    with tempfile.TemporaryDirectory() as directory:
        if check["copied"]:
            shutil.copytree(check["copied"], directory, dirs_exist_ok=True)
        for name, text in check["files"].items():
            write(Path(directory, name), text.replace("{directory}", directory))
        try:
            run(module, [word.replace("{directory}", directory) for word in check["command"]])
        except StepError as error:
            raise StepError(f"{error}; nothing was changed") from None


def require_room(saved: list[str]) -> None:
    """Refuse to start where a file might not be written to its end."""
    for path in (str(STATE), *saved):
        there = next(parent for parent in Path(path).parents if parent.exists())
        free = shutil.disk_usage(there).free
        if free < NEEDED_BYTES:
            raise NotStartedError(
                f"No space left on device: {there} has {free // 1024} KiB free, and a change of "
                f"the firewall needs {NEEDED_BYTES // 1024}. Nothing was changed"
            )


def arm(module: AnsibleModule, saved: list[str], arming: dict[str, str]) -> None:
    """Keep what is there now, and start the clock."""
    shutil.rmtree(STATE, ignore_errors=True)
    (STATE / "saved").mkdir(mode=0o700, parents=True)
    STATE.chmod(0o700)
    for number, path in enumerate(saved):
        if Path(path).exists():
            shutil.copy2(path, STATE / "saved" / str(number))
    for path, text in arming.items():
        write(Path(path), text)
    ARMED.touch()
    run(module, ["systemctl", "daemon-reload"])
    run(module, ["systemctl", "enable", "--quiet", f"{UNDO}.service"])
    run(module, ["systemctl", "start", f"{UNDO}.timer"])


def take(module: AnsibleModule, step: dict[str, Any]) -> None:
    """Take one step of a change."""
    if step["command"]:
        output = run(module, step["command"])
        if step["path"]:
            write(Path(step["path"]), output)
    elif step["text"] is not None:
        write(Path(step["path"]), step["text"])
    else:
        Path(step["path"]).unlink(missing_ok=True)


def run(module: AnsibleModule, command: list[str]) -> str:
    """Return what a program prints."""
    code, output, error = module.run_command(command)
    if code != 0:
        said = "\n".join(part.strip() for part in (error, output) if part.strip())
        raise StepError(f"{' '.join(command)} failed: {said}")
    return str(output)


def undone(module: AnsibleModule) -> str:
    """Undo what is armed; return what is wrong then, or nothing."""
    if ARMED.exists():
        module.run_command(["/bin/sh", str(STATE / "undo")])
        module.run_command(["systemctl", "stop", f"{UNDO}.timer"])
    return f"and it could not be undone: see {STATE}" if ARMED.exists() else ""


def write(path: Path, text: str) -> None:
    """Write a file as a whole, for everybody to read."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def text_of(path: Path) -> str:
    """Return what is in a file; of what is none, nothing."""
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(LONGEST)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Let nobody else change or undo anything meanwhile."""
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
