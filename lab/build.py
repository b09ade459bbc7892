"""A lab as a whole: built from an inventory, found again, taken away."""

import sysconfig
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from shutil import rmtree
from typing import Final

from lab import disk, image, network
from lab.container import Container
from lab.errors import LabError
from lab.machine import Machine
from lab.place import STATE, Place
from lab.process import run, succeeds
from lab.ssh import ssh, write_keys
from lab.topology import OPERATOR, Kind, Topology
from lab.vm import VirtualMachine
from runtime.spec.base import Frozen

_BOOT_SECONDS: Final = {Kind.CONTAINER: 90, Kind.VM: 300}
_END_SECONDS: Final = 30

Say = Callable[[str], None]


class Lab(Frozen):
    """A lab that was built: what it consists of, and what its hosts' disks lie over.

    Attributes:
        wheelhouse: downloaded requirements, where a host wants them.
        machine: what a virtual machine's disk and kernel are made of, where there is one.
        model: the directory of this machine that the hosts see as the model's.
    """

    topology: Topology
    base: str
    wheelhouse: str | None
    machine: str | None
    model: str

    @property
    def place(self) -> Place:
        """Where it keeps things on this machine."""
        return Place(self.topology.name)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts that can be booted: without a virtual machine unless one was asked for."""
        hosts = self.topology.hosts
        return tuple(host.name for host in hosts if self.machine or host.kind is not Kind.VM)

    def host(self, name: str) -> Machine:
        """Return a host.

        Raises:
            SpecError: there is none of this name.
        """
        host = self.topology.host(name)
        if host.kind is Kind.VM:
            if self.machine is None:
                raise LabError(
                    f"host {name} is a virtual machine", hint="./fleet lab up --vm starts it"
                )
            made = Path(self.machine)
            layers = (made / "upper", Path(self.base))
            return VirtualMachine(self.place, self.topology, host, layers, made)
        shown = {}
        if host.environment:
            packages = disk.packages(Path(host.environment))
            shown[str(packages)] = Path(sysconfig.get_path("purelib"))
        if host.wheelhouse and self.wheelhouse:
            shown[host.wheelhouse] = Path(self.wheelhouse)
        lent = {self.topology.model: Path(self.model)}
        return Container(self.place, self.topology, host, Path(self.base), shown, lent)

    def boot(self, names: Iterable[str]) -> None:
        """Boot hosts, side by side, until the operator can log in to each.

        Raises:
            LabError: one has not come up; it shows the end of its console.
        """
        chosen = [self.host(name) for name in names]
        for machine in chosen:
            machine.boot()
        for machine in chosen:
            self.wait(machine.host.name)

    def wait(self, name: str) -> None:
        """Wait until the operator can log in to a host.

        Raises:
            LabError: this has not come true in time.
        """
        machine = self.host(name)
        seconds = _BOOT_SECONDS[machine.host.kind]
        deadline = time.monotonic() + seconds
        login = ssh(self.place, name, "true", options=("-o", "ConnectTimeout=5"))
        while not succeeds(*login, seconds=20):
            if time.monotonic() > deadline:
                raise LabError(
                    f"nobody can log in to host {name} within {seconds} s; "
                    f"the end of its console:\n{machine.console()}"
                )
            time.sleep(0.2)  # between two tries; the deadline ends them


def prepare(topology: Topology, say: Say, vm: bool = False) -> image.Made:
    """Install and make what takes long and serves every lab of such hosts.

    Raises:
        LabError: this is not possible here.
    """
    return image.prepare(say, any(host.wheelhouse for host in topology.hosts), vm)


def up(topology: Topology, model: Path, say: Say, vm: bool = False) -> Lab:
    """Build a lab, or what is missing of it, and boot its hosts.

    Raises:
        LabError: this is not possible here.
    """
    place = Place(topology.name)
    if place.record.exists() and load(topology.name).topology != topology:
        raise LabError(
            f"there is a lab '{topology.name}' that was built from another inventory",
            hint="./fleet lab down",
        )
    made = prepare(topology, say, vm)
    # The record is written last: without it, or after this machine was switched off, there is no
    # more than remains of a network.
    if not place.record.exists() or not network.exists(place):
        network.destroy(place)
        network.build(place, topology)
    place.state.mkdir(parents=True, exist_ok=True)
    write_keys(place, topology)
    lab = Lab(
        topology=topology,
        base=str(made.base),
        wheelhouse=str(made.wheelhouse) if made.wheelhouse else None,
        machine=str(made.machine) if made.machine else None,
        model=str(model),
    )
    place.record.write_text(lab.model_dump_json(indent=2))
    say(f"booting {', '.join(lab.names)}")
    lab.boot(lab.names)
    return lab


def load(name: str) -> Lab:
    """Return a lab that was built before.

    Raises:
        LabError: there is none of this name.
    """
    path = Place(name).record
    if not path.exists():
        raise LabError(f"there is no lab '{name}'", hint="./fleet lab up")
    return Lab.model_validate_json(path.read_text())


def down(name: str) -> None:
    """Switch every host off and remove the lab; what serves other labs too is kept."""
    place = Place(name)
    if place.record.exists():
        lab = load(name)
        for host in lab.names:
            lab.host(host).kill()
    if network.exists(place):
        # Connections that were kept open, shells that were left.
        for pid in run("ip", "netns", "pids", place.namespace(OPERATOR)).split():
            succeeds("kill", pid)
    network.destroy(place)
    place.groups.kill()
    place.groups.is_empty_within(_END_SECONDS)
    place.groups.remove()
    rmtree(place.state, ignore_errors=True)
    if STATE.exists() and not any(STATE.iterdir()):
        STATE.rmdir()
