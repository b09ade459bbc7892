"""What `runtime.checks.doctor.on_host` prints, as the judges read it. Sizes are in bytes."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from runtime.errors import DeployError
from runtime.spec.base import Frozen, words


class Times(Frozen):
    """When the program began and ended, by the host's clock, in seconds since 1970."""

    start: float
    end: float


class Machine(Frozen):
    """The system, its kernel, its first process."""

    system: str
    version: str
    name: str
    kernel: str
    processor: str
    python: tuple[int, ...]
    init: str
    cores: int


class Modules(Frozen):
    """Kernel modules: "present", "built in", "loadable" or "", by their names.

    Attributes:
        has_directory: modules of the running kernel are on the host's disk.
    """

    has_directory: bool
    modules: dict[str, str]


class Clock(Frozen):
    """What the kernel says of its clock; None where it says nothing."""

    synchronised: bool | None
    error_seconds: float | None
    keepers: tuple[str, ...]


class Memory(Frozen):
    """The machine's memory, or that of the group of processes it is limited to."""

    total: int
    available: int
    swap: int


class Directory(Frozen):
    """A directory of the fleet and the file system it is, or will be, in."""

    use: str
    path: str
    mount: str
    kind: str
    read_only: bool
    total: int
    free: int
    files: int
    files_free: int


class Speed(Frozen):
    """What went through in how many seconds, and whether past the memory that caches it."""

    bytes: int
    seconds: float
    direct: bool = True

    @property
    def megabytes_per_second(self) -> float:
        """10^6 bytes a second."""
        return self.bytes / 1e6 / max(self.seconds, 1e-9)


class ModelFiles(Frozen):
    """A model's directory; `blocks` and `edges` (embeddings, head) are the sizes of the tensors."""

    path: str
    there: bool
    problem: str = ""
    blocks: tuple[int, ...] = ()
    edges: tuple[int, ...] = ()
    dtype: str = ""
    wrong_files: tuple[str, ...] = ()


class TorchAnswer(Frozen):
    """What torch says when it is asked for a GPU."""

    available: bool
    count: int
    architectures: tuple[str, ...]


class Torch(Frozen):
    """The torch of the services' environment; `answer` is None where it was not, or gave none."""

    python: str
    version: str
    cuda: str | None
    answer: TorchAnswer | None


class Gpus(Frozen):
    """What lspci, nvidia-smi and the kernel print; None: the program is not there."""

    bus: str
    query: str
    table: str
    kernel_driver: str
    nouveau: bool
    torch: Torch | None


class Card(Frozen):
    """A network card with one of its addresses; speed in Mbit/s, 0: it does not know."""

    name: str
    address: str
    mtu: int
    speed: int
    duplex: str
    carrier: bool
    physical: bool


class Socket(Frozen):
    """Somebody who listens, with the commands of its process and of those above it."""

    protocol: str
    address: str
    port: int
    process: str
    commands: tuple[str, ...]


class Path(Frozen):
    """A way to another host: what its first link carries, and the largest packet that came back."""

    link: int
    largest: int
    problem: str
    milliseconds: float | None


class Service(Frozen):
    """A service, in systemd's words."""

    state: str
    detail: str
    restarts: str


class Answer(Frozen):
    """What stage 0 answered, or the problem with it."""

    problem: str
    objects: tuple[dict[str, Any], ...]
    seconds: float


class Seen(Frozen):
    """Everything one host has said; what it was not asked, or could not say, is None.

    Attributes:
        asked, answered: when the controller began to ask and had the answer, by its own clock.
    """

    asked: float
    answered: float
    time: Times
    machine: Machine | None = None
    modules: Modules | None = None
    clock: Clock | None = None
    memory: Memory | None = None
    directories: tuple[Directory, ...] | None = None
    speeds: dict[str, Speed] | None = None
    model: ModelFiles | None = None
    gpus: Gpus | None = None
    cards: tuple[Card, ...] | None = None
    sockets: tuple[Socket, ...] | None = None
    paths: dict[str, Path] | None = None
    services: dict[str, Service] | None = None
    swarm: Answer | None = None
    token: Answer | None = None


def read(host: str, said: Mapping[str, Any]) -> Seen:
    """Return what a host has said.

    Raises:
        DeployError: it is not what this release's program prints.
    """
    try:
        return Seen.model_validate_json(json.dumps(dict(said)))
    except ValidationError as error:
        raise DeployError(
            f"what the doctor's program printed on host {host} cannot be read: "
            f"{words(error, Seen, host)}"
        ) from error
