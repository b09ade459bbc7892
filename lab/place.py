"""Where a lab keeps things on this machine, and what its namespaces are called."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.cgroup import Group

STATE: Final = Path("/var/lib/stagefleet-lab")
_RECORD: Final = "lab.json"
_CACHE: Final = Path("/var/cache/stagefleet-lab")


def cache() -> Path:
    """Return the directory of what takes long to make and serves every lab."""
    return Path(os.environ.get("STAGEFLEET_LAB_CACHE", _CACHE))


@dataclass(frozen=True)
class Place:
    """The directories and names of one lab; labs of different names do not see each other."""

    lab: str

    @property
    def state(self) -> Path:
        """Everything that belongs to this lab alone."""
        return STATE / self.lab

    @property
    def record(self) -> Path:
        """What the lab consists of, as it was built."""
        return self.state / _RECORD

    @property
    def ssh(self) -> Path:
        """The operator's key, the hosts' keys and the configuration that names them."""
        return self.state / "ssh"

    @staticmethod
    def records() -> list[Path]:
        """Return the records of every lab of this machine."""
        return sorted(STATE.glob(f"*/{_RECORD}"))

    def host(self, name: str) -> Path:
        """Return the directory of a host: its disk and its console's log."""
        return self.state / "hosts" / name

    def namespace(self, part: str) -> str:
        """Return the network namespace of a host, a router, the switch or the operator."""
        return f"stagefleet-{self.lab}.{part}"

    def group(self, part: str) -> Group:
        """Return the control group of a host, or of a helper."""
        return Group(f"stagefleet-{self.lab}/{part}")

    @property
    def groups(self) -> Group:
        """The control group that holds all of these."""
        return Group(f"stagefleet-{self.lab}")
