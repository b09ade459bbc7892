"""The way from a host with a card and no driver to one with: real apt, real packages, real pins.

The packages are empty and the cards are told by programs of the tests; everything between is what
runs on a real host, in a copy of this machine's system.
"""

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from runtime.cli.project import ROOT
from runtime.spec.gpus.drivers import source_of
from runtime.spec.gpus.seen import FILES
from tests.support.debs import Deb, SigningKey, publish
from tests.support.playbooks import Run, play
from tests.support.system_copy import SystemCopy, obstacle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HOST = "gpu-a"
KERNEL = "6.1.0-37-amd64"
CARD = (
    "0000:01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GA102 [GeForce RTX 3090] "
    "[10de:2204] (rev a1)\\n"
)
_LSPCI = f"#!/bin/sh\nprintf '{CARD}'\n"
_UNAME = f"""#!/bin/sh
[ "$*" = -r ] && exec echo {KERNEL}
exec /usr/bin/uname "$@"
"""
# What the real one says before its driver is loaded, and after.
_SMI = """#!/bin/sh
if [ ! -e /run/driver-is-loaded ]; then
  echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver." \\
    "Make sure that the latest NVIDIA driver is installed and running."
  exit 9
fi
echo "00000000:01:00.0, NVIDIA GeForce RTX 3090, 580.105.08, 8.6, Disabled"
"""
_NONE = "#!/bin/sh\necho none\nexit 1\n"
_OLDER = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms")


def nvidia(version: str) -> list[Deb]:
    """Return NVIDIA's packages of one version."""
    return [
        Deb("nvidia-driver-cuda", version, "libcuda1", {"/usr/bin/nvidia-smi": _SMI}),
        Deb("nvidia-kernel-open-dkms", version),
        Deb("libcuda1", version),
    ]


@dataclass
class Machine:
    """A copy of this machine with a card, and the repositories that it knows."""

    copy: SystemCopy
    directory: Path
    repositories: Path
    key: SigningKey
    address: str

    def publish(self, *versions: str) -> None:
        debs = [deb for version in versions for deb in nvidia(version)]
        # What everybody has, newer: nobody asked for it.
        debs.append(Deb("something-common", "2.0"))
        publish(self.repositories / "nvidia" / "debian12" / "x86_64", debs, self.key)

    def play(self, verb: str, *arguments: str, key: str = "") -> Run:
        site = {
            "name": "test",
            "authority": str(self.directory / "authority"),
            "model": {"path": "/srv/model", "total_blocks": 4},
            "serving": {"device": "auto"},
            "firewall": {"manage": False},
        }
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "cuda_repository": f"{self.address}/nvidia",
            "cuda_repository_fingerprint": key or self.key.fingerprint,
            "fleet_host": {"addresses": ["127.0.0.1"], "stages": [0]},
        }
        inventory = self.directory / "hosts.yml"
        data = {"all": {"hosts": {HOST: host}, "vars": {"fleet": site}}}
        inventory.write_text(yaml.safe_dump(data))
        environment = {"no_proxy": "127.0.0.1", "HOME": str(self.directory)}
        return play(verb, inventory, arguments, self.copy.within, environment)

    def version(self, package: str) -> str:
        shown = self.copy.attempt("dpkg-query", "--show", "--showformat=${Version}", package)
        return shown.stdout if shown.returncode == 0 else ""

    def start_anew(self, number: int) -> None:
        """Let the system have started again, with the driver."""
        boot = self.directory / f"boot-{number}"
        boot.write_text(f"boot {number}\n")
        self.copy.put_over("/proc/sys/kernel/random/boot_id", boot)

    def files(self) -> str:
        """Return what is in apt's configuration and in our directories, and what is installed."""
        script = (
            f"find /etc/apt /etc/systemd/system {FILES.state} -type f | sort | xargs md5sum; "
            "dpkg-query -W; dpkg --get-selections"
        )
        return self.copy.attempt("sh", "-c", script).stdout


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    reason = obstacle()
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("cuda")
    shared = directory / "shared"
    shared.mkdir()
    repositories = shared / "repositories"
    key = SigningKey(directory / "key")
    handler = functools.partial(_Quiet, directory=str(repositories))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    copy = SystemCopy(directory / "system", [shared, ROOT])
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        found = Machine(copy, shared, repositories, key, address)
        prepare(found)
        yield found
    finally:
        copy.close()
        key.close()
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def prepare(machine: Machine) -> None:
    """Give the machine a card, and the repositories of a distribution."""
    older = [Deb(name, "535.1-1") for name in _OLDER]
    publish(
        machine.repositories / "distribution",
        [
            *older,
            Deb(f"linux-headers-{KERNEL}", "1"),
            Deb("linux-headers-amd64", "1"),
            Deb("something-common", "1.0"),
        ],
    )
    machine.publish("580.82.07-1", "580.105.08-1", "590.44.01-1")
    place = machine.repositories / "nvidia" / "debian12" / "x86_64"
    source = source_of(("debian", "12"), "nvidia")
    assert source is not None
    assert source.repository is not None
    (place / source.repository.key).write_text(machine.key.armoured)
    copy = machine.copy
    # By another name, since apt tells repositories from each other by that of their server.
    others = machine.address.replace("127.0.0.1", "localhost")
    copy.run("sh", "-c", "rm -rf /etc/apt/sources.list* /etc/apt/apt.conf.d/*proxy* /run/systemd")
    copy.run("mkdir", "/etc/apt/sources.list.d")
    copy.write("/etc/apt/sources.list", f"deb [trusted=yes] {others}/distribution ./\n")
    copy.write(
        "/etc/apt/apt.conf.d/99tests",
        'Acquire::http::Proxy { 127.0.0.1 "DIRECT"; localhost "DIRECT"; };\n',
    )
    programs = {
        "lspci": _LSPCI,
        "uname": _UNAME,
        "systemd-detect-virt": _NONE,
        "mokutil": "#!/bin/sh\necho 'SecureBoot disabled'\n",
    }
    for name, text in programs.items():
        copy.write(f"/usr/local/bin/{name}", text, 0o755)
    copy.write(
        "/etc/os-release", 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nNAME=Debian\n'
    )
    copy.run("apt-get", "update", "-qq")
    copy.run("apt-get", "install", "-y", "-qq", "something-common=1.0")
    machine.start_anew(0)


def said(run: Run) -> str:
    """Return what a playbook said, without the lines' ends that Ansible adds."""
    return " ".join(run.output.split())


def test_from_a_card_without_a_driver_to_one_that_works_and_back(machine: Machine) -> None:
    copy = machine.copy
    virgin = machine.files()

    # Without changing anything: what would be done.
    shown = machine.play("cuda", "--check", "--diff")
    assert shown.code == 0, shown.output
    assert "would install" in shown.output
    assert machine.files() == virgin

    # A repository whose key is another one.
    refused = machine.play("cuda", key="EB693B3035CD5710E231E123A4B469963BF863CC")
    assert refused.code != 0
    assert f"has the key {machine.key.fingerprint} and not EB693B" in said(refused)
    assert copy.attempt("ls", FILES.source).stdout == machine.version("nvidia-driver-cuda") == ""

    # Installed, but nobody has allowed a reboot.
    waiting = machine.play("cuda")
    assert waiting.code != 0
    assert "driver 580 is installed, but it is not loaded yet" in said(waiting)
    assert "-e cuda_allow_reboot=true" in said(waiting)
    # The newest of the branch, where the repository has newer ones and the distribution older.
    for package in ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "libcuda1"):
        assert machine.version(package) == "580.105.08-1"
    assert machine.version(f"linux-headers-{KERNEL}") == "1"
    held = copy.run("apt-mark", "showhold").split()
    assert held == ["nvidia-driver-cuda", "nvidia-kernel-open-dkms"]
    record = json.loads(copy.run("cat", FILES.record))
    assert set(record["added"]) == {
        *("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "libcuda1"),
        *(f"linux-headers-{KERNEL}", "linux-headers-amd64"),
    }

    # A run that is allowed to would reboot; Ansible does not reboot the machine that it runs on.
    rebooting = machine.play("cuda", "-e", "cuda_allow_reboot=true")
    assert "would reboot the control node" in said(rebooting), rebooting.output[-1500:]

    # It has rebooted. Newer drivers come out: an upgrade leaves it alone, and takes nothing else.
    machine.start_anew(1)
    copy.write("/run/driver-is-loaded", "")
    machine.publish("580.105.08-1", "580.126.09-1", "590.44.01-1")
    copy.run("apt-get", "update", "-qq")
    copy.run("apt-get", "upgrade", "-y", "-qq")
    assert machine.version("nvidia-driver-cuda") == "580.105.08-1"
    assert machine.version("something-common") == "1.0"
    done = machine.play("cuda")
    assert done.code == 0, done.output
    assert done.count(HOST, "changed") == 0
    assert "GeForce RTX 3090 (Ampere, 8.6); driver 580.105.08 (open modules)" in said(done)
    assert "CUDA 13.0, torch's build cu130" in said(done)

    # The fleet goes, while another one of the host still needs the driver.
    copy.write(f"{FILES.state}/fleets/other", "")
    gone = machine.play("destroy", "-e", "destroy_fleet=test")
    assert gone.code == 0, gone.output
    assert machine.version("nvidia-driver-cuda") == "580.105.08-1"

    # And the last one.
    copy.run("mv", f"{FILES.state}/fleets/other", f"{FILES.state}/fleets/test")
    gone = machine.play("destroy", "-e", "destroy_fleet=test")
    assert gone.code == 0, gone.output
    assert machine.files() == virgin
