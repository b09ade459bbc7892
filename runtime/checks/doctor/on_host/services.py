"""What systemd or supervisord says of the fleet's services."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.checks.doctor.on_host.machine import said

_PROPERTIES = "Id,LoadState,ActiveState,SubState,NRestarts,Result"


def seen(asked: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the state of each service; what is not installed is missing.

    Args:
        asked: "names", the services; "systemd", the directory of its units; "supervisord", that of
            its configuration.
    """
    directory = Path(asked["supervisord"]).expanduser()
    if (directory / "supervisord.conf").exists():
        return _supervisord(directory, asked["names"])
    installed = [
        name for name in asked["names"] if Path(asked["systemd"], f"{name}.service").exists()
    ]
    if not installed:
        return {}
    units = [f"{name}.service" for name in installed]
    _, text = said("systemctl", "show", f"--property={_PROPERTIES}", *units)
    found = {}
    for paragraph in text.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in paragraph.splitlines() if "=" in line)
        found[values.get("Id", "").removesuffix(".service")] = {
            "state": values.get("ActiveState", ""),
            "detail": f"{values.get('SubState', '')}, result {values.get('Result', '')}",
            "restarts": values.get("NRestarts", "0"),
        }
    return {name: found[name] for name in installed if name in found}


def _supervisord(directory: Path, names: list[str]) -> dict[str, dict[str, str]]:
    program = directory / "bin" / "supervisorctl"
    _, text = said(str(program), "--configuration", str(directory / "supervisord.conf"), "status")
    states = {"RUNNING": "active", "STARTING": "activating", "STOPPED": "inactive"}
    found = {}
    for line in text.splitlines():
        words = line.split(None, 2)
        if len(words) > 1 and words[0] in names:
            detail = words[2] if len(words) > 2 else ""
            state = states.get(words[1], "failed")
            found[words[0]] = {"state": state, "detail": detail, "restarts": "0"}
    return found
