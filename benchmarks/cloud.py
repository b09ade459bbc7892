"""What a plan of a cloud's rules costs, and how the number of calls to a cloud grows with rules.

    .venv/bin/python -m benchmarks.cloud [--hosts 1000] [--services 10] [--rounds 5]

The plan is that of a fleet whose hosts share one network of AWS: from its flows to the rules, and
compared once with nothing and once with what is there already. Seconds are of one core.
"""

import argparse
import ipaddress
import platform
import statistics
import sys
import time
from typing import Any

from cloud.changes import diff
from cloud.rules import State, wanted
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import fleet_of


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument(
        "--services", type=int, default=10, help="on each host, with ssh; at least 3"
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    started = time.process_time()
    fleet = fleet_of(variables(options.hosts, options.services))
    read = time.process_time() - started
    seconds, rules = [], 0
    for _ in range(options.rounds):
        started = time.process_time()
        want = wanted(fleet, "aws")
        changes = diff(State(), want)
        unchanged = diff(want, want)
        seconds.append(time.process_time() - started)
        if unchanged:
            sys.exit("a plan differs from itself")
        rules = len(changes)
    print(f"{platform.platform()}, Python {platform.python_version()}\n")
    print("| hosts | services | changes | reading | plan: median | least | most |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {options.hosts} | {services(fleet)} | {rules} | {read:.2f} s "
        f"| {statistics.median(seconds):.2f} s | {min(seconds):.2f} s | {max(seconds):.2f} s |"
    )


def services(fleet: Fleet) -> int:
    """Return how many ports the hosts of a fleet serve."""
    return len(fleet.hosts) + 2 * len(fleet.stages)


def variables(hosts: int, per_host: int) -> dict[str, dict[str, Any]]:
    """Return an inventory of hosts in one network, each with ssh and as many stages as fit."""
    # Beside ssh, a stage has two.
    stages = hosts * (per_host - 1) // 2
    network = ipaddress.ip_network("10.0.0.0/8")
    site = {
        "name": "benchmark",
        "model": {
            "path": "/models/m",
            "total_blocks": stages + 1,
            "splits": list(range(1, stages)),
        },
        "operators": ["192.0.2.0/24"],
        "networks": [{"name": "vpc", "cidr": str(network)}],
        "clouds": {"aws": {"provider": "aws", "region": "us-east-1", "vpc": "vpc-12345678"}},
    }
    first_port = 10_000
    return {
        f"gpu-{number}": {
            "fleet": site,
            "fleet_host": {
                "addresses": [str(network[number + 1])],
                "cloud": "aws",
                "stages": [
                    {
                        "stage": stage,
                        "dht_port": first_port + 2 * place,
                        "rpc_port": first_port + 2 * place + 1,
                    }
                    for place, stage in enumerate(range(number, stages, hosts))
                ],
            },
        }
        for number in range(hosts)
    }


if __name__ == "__main__":
    main()
