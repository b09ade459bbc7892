"""How long a deployment takes, and how that grows with the number of hosts, on hosts of the lab.

    sudo .venv/bin/python -m benchmarks.deployment --model DIR [--hosts 1 4 16] [--rounds 3]

Each fleet has one stage on every host. Measured are the first deployment and, in rounds, the one
after it that has nothing to change; and which tasks of that take the most. Every host shares this
machine's cores: on a real fleet each has its own, so what hosts do side by side costs less there.
"""

import argparse
import ipaddress
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import yaml

from lab import build
from lab.network import inside
from lab.place import STATE
from lab.ssh import operator_environment
from lab.topology import OPERATOR, topology
from runtime.cli.project import ROOT, playbook_command, playbook_environment
from runtime.spec.inventory import read_inventory

_NAME: Final = "lab-benchmark"
_SHOWN_TASKS: Final = 8


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, required=True, help="the sample model, imported")
    options = parser.parse_args()
    rows, tasks = [], ""
    for hosts in options.hosts:
        first, again, tasks = measure(hosts, options.rounds, options.model.resolve())
        rows.append((hosts, first, again))
        print(f"{hosts} hosts: first {first:.0f} s, again {again}", file=sys.stderr)
    print(f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}\n")
    print("| hosts | first run | no change: median | least | most | of one host |")
    print("|---|---|---|---|---|---|")
    base = statistics.median(rows[0][2])
    for hosts, first, again in rows:
        median = statistics.median(again)
        print(
            f"| {hosts} | {first:.0f} s | {median:.1f} s | {min(again):.1f} s | {max(again):.1f} s "
            f"| {median / base:.1f} |"
        )
    print(f"\nThe longest tasks of the last one:\n\n{tasks}")


def measure(hosts: int, rounds: int, model: Path) -> tuple[float, list[float], str]:
    """Return the seconds of the first run and of the others, and the last one's longest tasks."""
    build.down(_NAME)
    with tempfile.TemporaryDirectory() as directory:
        inventory = Path(directory)
        (inventory / "hosts.yml").write_text(yaml.safe_dump(_variables(hosts, inventory)))
        lab = build.up(topology(read_inventory(inventory)), model, lambda _: None)
        try:
            first, _ = _deployed(lab, inventory)
            again = [_deployed(lab, inventory) for _ in range(rounds)]
        finally:
            build.down(_NAME)
    return first, [seconds for seconds, _ in again], _longest(again[-1][1])


def _deployed(lab: build.Lab, inventory: Path) -> tuple[float, str]:
    command = inside(lab.place, OPERATOR, *playbook_command("site", inventory, []))
    environment = {
        **playbook_environment(),
        **operator_environment(lab.place),
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
        "ANSIBLE_NOCOLOR": "1",
    }
    started = time.monotonic()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    seconds = time.monotonic() - started
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return seconds, done.stdout


def _longest(output: str) -> str:
    recap = output.partition("TASKS RECAP")[2]
    found = re.findall(r"^(\S.*?) -+ +([0-9.]+)s$", recap, re.MULTILINE)[:_SHOWN_TASKS]
    return "\n".join(f"- {name}: {seconds} s" for name, seconds in found)


def _variables(hosts: int, directory: Path) -> dict[str, Any]:
    """Return an inventory of this many hosts like the first one of the lab's own inventory."""
    first, own = next(iter(read_inventory(ROOT / "inventories" / "lab").variables.items()))
    variables = {key: value for key, value in own.items() if key not in ("fleet", "fleet_host")}
    config = variables["ansible_ssh_common_args"]
    variables["ansible_ssh_common_args"] = config.replace(f"{STATE}/lab/", f"{STATE}/{_NAME}/")
    total = own["fleet"]["model"]["total_blocks"]
    model = own["fleet"]["model"] | {
        "splits": [stage * total // hosts for stage in range(1, hosts)]
    }
    site = own["fleet"] | {
        "name": _NAME,
        "authority": str(directory / "authority"),
        "model": model,
        "networks": [],
    }
    address = ipaddress.ip_address(own["ansible_host"])
    return {
        "all": {
            "vars": variables | {"fleet": site},
            "hosts": {
                f"{first}-{number}": {
                    "ansible_host": str(address + number),
                    "fleet_host": {"stages": [number]},
                }
                for number in range(hosts)
            },
        }
    }


if __name__ == "__main__":
    main()
