"""Every check of the doctor, once: its id, what it looks at, and when it warns or fails.

The limits that judges apply stand here, each with the reason for it.
"""

from typing import Final

from runtime.spec.base import Frozen


class Check(Frozen):
    """One check.

    Attributes:
        id: what findings call it.
        looks_at: the evidence.
        warns, fails: when it does; empty: it never does.
        before: it is made ahead of a deployment too.
    """

    id: str
    looks_at: str
    warns: str = ""
    fails: str = ""
    before: bool = True


MIB: Final = 2**20
GIB: Final = 2**30

# A release, its configurations and the logs of some days.
LEAST_FREE_BYTES: Final = 512 * MIB
# An environment with torch for a CPU, with what pip needs to unpack it; one for GPUs takes thrice.
SCARCE_FREE_BYTES: Final = 3 * GIB
LEAST_FREE_FILES: Final = 1_000
# An environment has 40,000 files.
SCARCE_FREE_FILES: Final = 60_000
# Servers take turns by what they announce, proven for clocks that differ by 3 s
# (docs/decisions/0022-servers-take-turns-by-what-they-announce.md).
WORST_OFFSET_SECONDS: Final = 3.0
LARGE_OFFSET_SECONDS: Final = 1.0
# Below this a release takes minutes to unpack; a worn SD card writes 10 to 20 MB/s.
SLOW_WRITE_MEGABYTES: Final = 20.0
# A span of 10 GB takes 100 s to load.
SLOW_READ_MEGABYTES: Final = 100.0
# Hidden states of a prefill of 4 MiB take a third of a second.
SLOW_LINK_MEGABITS: Final = 1000
# RFC 8200: what every link of IPv6 carries; with less, tunnels and TLS suffer too.
LEAST_MTU: Final = 1280
OLDEST_PYTHON: Final = (3, 11)
# Of the roles' own metadata: what they are tried on.
TRIED_SYSTEMS: Final = {"debian": ("12", "13"), "ubuntu": ("24.04",)}

REACHED: Final = Check(
    id="host.reached",
    looks_at="whether Ansible gets in and the doctor's program runs there",
    fails="it does not",
)
SYSTEM: Final = Check(
    id="os.system",
    looks_at="distribution, kernel, Python",
    warns="a distribution that stagefleet was not tried on",
    fails="Python older than 3.11",
)
MODULES: Final = Check(
    id="os.modules",
    looks_at="the kernel modules that the inventory needs: for the firewall, for NVIDIA's driver, "
    "and `fleet.doctor.modules`",
    fails="the running kernel neither has one nor can load it",
)
OFFSET: Final = Check(
    id="clock.offset",
    looks_at="the host's clock against the controller's, with bounds for the time that asking took",
    warns="surely more than 1 s apart",
    fails="surely more than 3 s apart: announcements would come from the past or the future",
)
KEEPER: Final = Check(
    id="clock.kept",
    looks_at="whether the kernel calls its clock synchronised, and which program sees to that",
    warns="nothing corrects it",
)
ROOM: Final = Check(
    id="disk.room",
    looks_at="free bytes and files of each file system that the fleet uses, and whether it can be "
    "written",
    warns="where the code is, less than 3 GiB or 60,000 files",
    fails="less than 512 MiB or 1,000 files, or it is read-only",
)
SPEED: Final = Check(
    id="disk.speed",
    looks_at="a second of writing, synchronised, to a file without a name beside the code",
    warns="less than 20 MB/s",
)
MEMORY: Final = Check(
    id="memory.room",
    looks_at="the memory against the blocks that the host's servers hold on their CPU",
    warns="they take more than nine tenths",
    fails="they take more than there is",
)
MODEL: Final = Check(
    id="model.files",
    looks_at="the model's manifest, and that every file is there with its size",
    warns="before a deployment: they are not there (yet)",
    fails="a server is installed, and files are missing or of another size",
)
MODEL_SPEED: Final = Check(
    id="model.speed",
    looks_at="a second of reading the model's files past the cache, from a disk or from a share",
    warns="less than 100 MB/s",
)
DRIVER: Final = Check(
    id="gpu.driver",
    looks_at="NVIDIA's cards on the bus against the driver: lspci, nvidia-smi, the kernel",
    warns="cards that nothing of the inventory uses have no driver",
    fails="a server is to use a GPU, and there is none, or the driver does not work",
)
TORCH: Final = Check(
    id="gpu.torch",
    looks_at="torch's CUDA against the driver's, its architectures against the cards'",
    fails="torch cannot compute on a card that a server is to use",
)
CARD: Final = Check(
    id="link.speed",
    looks_at="carrier, speed and duplex of the cards that have the host's addresses",
    warns="slower than 1 Gbit/s, or half duplex",
    fails="no carrier",
)
MTU: Final = Check(
    id="path.mtu",
    looks_at="the largest packet, not fragmented, that comes back from each host that it talks to, "
    "against what the cards at both ends carry",
    warns="outside of the declared networks: less than both ends carry, or than 1,280 bytes",
    fails="within a declared network: both ends differ, or a hop between lets less through",
)
PORTS: Final = Check(
    id="ports.free",
    looks_at="who listens at each declared port",
    fails="somebody who is not of this fleet",
)
RENEWAL: Final = Check(
    id="identity.renewal",
    looks_at="the certificates that the authority has issued",
    warns="one ends soon",
)
SERVICES: Final = Check(
    id="service.running",
    looks_at="the state of each service of the plan",
    warns="it is still starting",
    fails="it is installed and does not run",
    before=False,
)
REACH: Final = Check(
    id="ports.reach",
    looks_at="every port dialled by who may and by one who may not, as `./fleet check-ports` does",
    warns="something is not as declared, and nothing is deployed yet; or it cannot be told",
    fails="something is not as declared",
    before=False,
)
SWARM: Final = Check(
    id="swarm.view",
    looks_at="what stage 0 sees in the DHT: blocks that nobody serves, records that do not count",
    warns="a record does not count",
    fails="blocks that nobody serves, or stage 0 does not answer",
    before=False,
)
TOKEN: Final = Check(
    id="pipeline.token",
    looks_at="one token generated through all stages",
    fails="none comes",
    before=False,
)

CATALOGUE: Final = (
    *(REACHED, SYSTEM, MODULES, OFFSET, KEEPER, ROOM, SPEED, MEMORY, MODEL, MODEL_SPEED),
    *(DRIVER, TORCH, CARD, MTU, PORTS, RENEWAL, SERVICES, REACH, SWARM, TOKEN),
)
