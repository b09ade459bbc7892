"""A change of a host that undoes itself unless it is confirmed, carried out on the host.

Modules of roles are made of this: each of them names what it changes, and everything else (what to
ask, what to do, how to undo it) is decided on the operator's side by `runtime.spec`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

UNITS = Path("/etc/systemd/system")
# Tools rewrite their files in place, and so would undoing; a full disk would leave half of them.
NEEDED_BYTES = 8 * 2**20
# In characters; files of a firewall's or a network's configuration are far shorter.
LONGEST = 2**20


class StepError(Exception):
    """A step, or a tool's own check, has failed; its text is for the operator."""


class NotStartedError(StepError):
    """Nothing was changed: somebody else's change is not confirmed yet, or there is no room."""


class Names(NamedTuple):
    """What is changed, as in `runtime.spec.undoing.Kind`.

    Attributes:
        name: part of the names of directories and units.
        what: the same for people.
    """

    name: str
    what: str

    @property
    def state(self) -> Path:
        """Where a change waits for its confirmation."""
        return Path(f"/var/lib/stagefleet-{self.name}")

    @property
    def armed(self) -> Path:
        """The file that is there as long as a change waits."""
        return self.state / "armed"

    @property
    def lock(self) -> Path:
        """What who changes or undoes something holds meanwhile."""
        return Path(f"/run/stagefleet-{self.name}.lock")

    @property
    def unit(self) -> str:
        """The name of the timer that undoes a change, and of its service."""
        return f"stagefleet-{self.name}-undo"


def run_module(names: Names) -> None:
    """Do what the module's arguments ask for."""
    actions = {"look": look, "apply": apply, "confirm": confirm, "undo": undo}
    module = AnsibleModule(
        argument_spec={
            "action": {"type": "str", "required": True, "choices": list(actions)},
            "questions": {"type": "dict"},
            "change": {"type": "dict"},
            "arming": {"type": "dict"},
            "proofs": {"type": "list", "elements": "dict", "default": []},
        },
        required_if=[("action", "look", ["questions"]), ("action", "apply", ["change", "arming"])],
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C", "LANG": "C"}
    try:
        actions[module.params["action"]](module, names)
    except (StepError, OSError) as error:
        module.fail_json(msg=str(error))


def look(module: AnsibleModule, _: Names) -> None:
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


def apply(module: AnsibleModule, names: Names) -> None:
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
        with locked(names):
            if names.armed.exists():
                raise NotStartedError(
                    "another change of this host waits to be confirmed; within a minute "
                    "it is confirmed or undone: run this again then. Nothing was changed"
                )
            require_room(names, change["saved"])
            arm(module, names, change["saved"], module.params["arming"])
            for step in change["steps"]:
                take(module, step)
    except NotStartedError:
        raise
    except (StepError, OSError) as error:
        problem = undone(module, names)
        module.fail_json(msg=f"{error}; {problem or names.what + ' is as it was before'}")
    module.exit_json(changed=True, diff=diff)


def confirm(module: AnsibleModule, names: Names) -> None:
    """Keep the change, if its proofs hold: disarm what would undo it."""
    with locked(names):
        if not names.armed.exists():
            raise StepError("the change was undone before it could be confirmed")
        for proof in module.params["proofs"]:
            code, _, _ = module.run_command(proof["command"])
            if code != 0:
                raise StepError(proof["problem"])
        names.armed.unlink()
        module.run_command(["systemctl", "stop", f"{names.unit}.timer"])
        module.run_command(["systemctl", "disable", "--quiet", f"{names.unit}.service"])
        for suffix in ("timer", "service"):
            (UNITS / f"{names.unit}.{suffix}").unlink()
        shutil.rmtree(names.state)
        module.run_command(["systemctl", "daemon-reload"])
    module.exit_json(changed=True)


def undo(module: AnsibleModule, names: Names) -> None:
    """Undo the change now, if it is not undone yet."""
    waits = names.armed.exists()
    problem = undone(module, names)
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


def require_room(names: Names, saved: list[str]) -> None:
    """Refuse to start where a file might not be written to its end."""
    for path in (str(names.state), *saved):
        there = next(parent for parent in Path(path).parents if parent.exists())
        free = shutil.disk_usage(there).free
        if free < NEEDED_BYTES:
            raise NotStartedError(
                f"No space left on device: {there} has {free // 1024} KiB free, and a change of "
                f"{names.what} needs {NEEDED_BYTES // 1024}. Nothing was changed"
            )


def arm(module: AnsibleModule, names: Names, saved: list[str], arming: dict[str, str]) -> None:
    """Keep what is there now, and start the clock."""
    shutil.rmtree(names.state, ignore_errors=True)
    (names.state / "saved").mkdir(mode=0o700, parents=True)
    names.state.chmod(0o700)
    for number, path in enumerate(saved):
        if Path(path).exists():
            shutil.copy2(path, names.state / "saved" / str(number))
    for path, text in arming.items():
        write(Path(path), text)
    names.armed.touch()
    run(module, ["systemctl", "daemon-reload"])
    run(module, ["systemctl", "enable", "--quiet", f"{names.unit}.service"])
    # One that has undone an earlier change is still active, and would not be started again.
    run(module, ["systemctl", "restart", f"{names.unit}.timer"])


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


def undone(module: AnsibleModule, names: Names) -> str:
    """Undo what is armed; return what is wrong then, or nothing."""
    if names.armed.exists():
        module.run_command(["/bin/sh", str(names.state / "undo")])
        module.run_command(["systemctl", "stop", f"{names.unit}.timer"])
    return f"and it could not be undone: see {names.state}" if names.armed.exists() else ""


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
def locked(names: Names) -> Iterator[None]:
    """Let nobody else change or undo anything meanwhile."""
    with names.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
