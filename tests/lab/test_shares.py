"""Shares between real hosts: kernel NFS between virtual machines, SMB from a container to one."""

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime
from lab import build, fault
from lab.errors import LabError
from lab.machine import Machine
from lab.process import run
from lab.ssh import ssh
from tests.support import shared_load
from tests.support.lab import LabFleet, join

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

_PASSWORD = "correct horse battery"
_STRANGER = "10.78.0.250"
_BOUND = 10
_TRIES = 10
_BLOCK_BYTES = 50_000_000
_OWN_FILES = ("/etc/exports.d", "/etc/stagefleet-shares", "/etc/nfs.conf.d", "/etc/systemd/system")
_LEFT = (
    f"find {' '.join(_OWN_FILES)} /srv /var/lib/stagefleet-shares -xdev 2>/dev/null "
    "| sort; getent passwd | grep -E 'sf-share|bob'; true"
)
HOSTS = ("vm-0", "vm-1", "gpu-1")
SHARES: list[dict[str, Any]] = [
    {"name": "models", "host": "vm-0", "path": "/srv/shared", "readers": ["vm-1"]},
    {
        "name": "work",
        "host": "gpu-1",
        "path": "/srv/work",
        "kind": "projects",
        "protocol": "smb",
        "users": ["bob"],
        "readers": ["vm-1"],
    },
    {
        "name": "weights",
        "host": "gpu-1",
        "path": "/srv/weights",
        "protocol": "smb",
        "users": ["bob"],
        "readers": ["vm-1"],
    },
]
# What a host that loads weights needs of this machine's environment.
_PACKAGES = (
    *("pydantic", "pydantic_core", "typing_extensions.py", "annotated_types"),
    "typing_inspection",
)


def share(fleet: LabFleet) -> None:
    """Let vm-0 share models by NFS, and gpu-1 work by SMB, with vm-1."""
    fleet.site["shares"] = SHARES
    for host in ("vm-0", "vm-1"):
        join(fleet, host)
    for variables in fleet.hosts.values():
        variables["vault_share_passwords"] = {"bob": _PASSWORD}


def told(machine: Machine, script: str) -> str:
    """Return what a shell script of root prints on a host, its errors too."""
    quoted = base64.b64encode(script.encode()).decode()
    text = f"echo {quoted} | base64 -d | sh 2>&1"
    # One word for a container's shell; over SSH it is joined and read by a shell anyway.
    command = (text,) if machine.host.name.startswith("vm") else ("sh", "-c", text)
    try:
        return run(*machine.command(*command), seconds=180)
    except LabError as error:
        error.add_note(f"it is {machine.state()}; the end of its console:\n{machine.console()}")
        raise


@pytest.fixture(scope="module")
def before(shared: LabFleet) -> dict[str, str]:
    """What is where shares leave files, before there are any."""
    return {host: told(shared.machine(host), _LEFT) for host in HOSTS}


@pytest.fixture(scope="module")
def shared(
    fleet: LabFleet, sample_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabFleet]:
    """Two virtual machines and a container, of which one is to see what the others share."""
    topology = fleet.built().topology
    fleet.lab = build.up(
        topology, sample_model, lambda said: print(f"lab: {said}", file=sys.stderr), vm=True
    )
    model = tmp_path_factory.mktemp("shares") / "m"
    shared_load.make(model, _BLOCK_BYTES)
    told(fleet.machine("vm-0"), "mkdir -p /srv/shared")
    place = fleet.built().place
    send(ssh(place, "vm-0", "sudo", "tar", "-x", "-C", "/srv/shared"), model.parent, "m")
    fleet.on("gpu-1", "apt-get", "update", "--quiet")
    fleet.on("gpu-1", "mkdir", "/srv/weights")
    send(fleet.machine("gpu-1").command("tar", "-x", "-C", "/srv/weights"), model.parent, "m")
    with fleet.changed():
        share(fleet)
        yield fleet


def send(command: list[str], directory: Path, *names: str) -> None:
    """Pack files of a directory into a command that unpacks them."""
    pack = ["tar", "-c", "--exclude=__pycache__", "-C", str(directory), *names]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
        subprocess.run(command, stdin=packed.stdout, check=True, timeout=120)


def test_a_check_of_virgin_hosts_changes_nothing(shared: LabFleet, before: dict[str, str]) -> None:
    found = shared.succeed("shares", "--check", "--diff", "--limit", ",".join(HOSTS))
    assert all(found.count(host, "changed") > 0 for host in HOSTS)
    assert "samba is missing here, and would be installed" in found.output
    assert "+server smb encrypt = required" in found.output
    assert {host: told(shared.machine(host), _LEFT) for host in HOSTS} == before


def test_declared_readers_read_the_same_bytes_and_nobody_writes_models(shared: LabFleet) -> None:
    reader, store = shared.machine("vm-1"), shared.machine("vm-0")
    shared.succeed("shares", "--limit", ",".join(HOSTS))
    digest = "sha256sum /srv/shared/m/block-0000.safetensors"
    assert told(reader, digest) == told(store, digest)
    mounted = told(reader, "grep ' /srv/shared nfs4 ' /proc/mounts")
    assert {"ro", "nosuid", "nodev", "noatime", "vers=4.2", "nconnect=4"} <= set(
        mounted.split()[3].split(",")
    )
    assert "Read-only file system" in told(reader, "touch /srv/shared/m/new; true")
    # Not by the reader's own good manners: with another mount, the server refuses.
    source = mounted.split()[0]
    said = told(
        reader,
        f"mkdir -p /run/rw; mount -t nfs4 -o rw,vers=4.2,nosharecache {source} /run/rw"
        " && touch /run/rw/m/new; umount /run/rw",
    )
    assert "Read-only file system" in said
    assert "new" not in told(store, "ls /srv/shared/m")


def test_models_that_are_shared_by_smb_can_be_read_and_not_written(shared: LabFleet) -> None:
    reader, store = shared.machine("vm-1"), shared.machine("gpu-1")
    digest = "sha256sum /srv/weights/m/block-0000.safetensors"
    assert told(reader, digest) == told(store, digest)
    assert "Read-only file system" in told(reader, "touch /srv/weights/m/new; true")
    # Nor with a mount that would let it.
    weights = told(reader, "grep ' /srv/weights cifs ' /proc/mounts").split()[0]
    options = "rw,vers=3.1.1,seal,credentials=/etc/stagefleet-shares/lab-test.bob.credentials"
    said = told(
        reader,
        f"mkdir -p /run/rw; mount -t cifs -o {options} {weights} /run/rw"
        " && { cat /run/rw/m/config.json >/dev/null && echo read; touch /run/rw/m/new; };"
        " umount /run/rw",
    )
    assert "read" in said.splitlines()
    assert "Permission denied" in said or "Read-only file system" in said, said
    assert "new" not in told(store, "ls /srv/weights/m")


def test_older_protocols_and_hosts_that_are_not_listed_stay_out(shared: LabFleet) -> None:
    reader = shared.machine("vm-1")
    source = told(reader, "grep ' /srv/shared nfs4 ' /proc/mounts").split()[0]
    assert "mount.nfs" in told(
        reader, f"timeout 60 mount -t nfs4 -o vers=4.1 {source} /mnt && echo mounted; true"
    )
    told(
        reader,
        "ip netns add stranger; ip link add link data0 name s0 type macvlan mode bridge;"
        f" ip link set s0 netns stranger; ip -n stranger address add {_STRANGER}/24 dev s0;"
        " ip -n stranger link set s0 up",
    )
    try:
        # It reaches the server, which knows it not.
        said = told(
            reader,
            "ip netns exec stranger timeout 60 mount -t nfs4 -o vers=4.2"
            f" {source} /mnt && echo mounted; true",
        )
        assert "access denied by server" in said
        assert "mounted" not in said.splitlines()
        work = told(reader, "grep ' /srv/work cifs ' /proc/mounts").split()[0]
        options = "vers=3.1.1,seal,credentials=/etc/stagefleet-shares/lab-test.bob.credentials"
        said = told(
            reader,
            f"ip netns exec stranger timeout 60 mount -t cifs -o {options} {work} /mnt"
            " && echo mounted; true",
        )
        assert "mount error" in said
        assert "mounted" not in said.splitlines()
    finally:
        told(reader, "ip netns delete stranger")


def test_smb_takes_named_users_over_encrypted_connections_only(shared: LabFleet) -> None:
    reader, store = shared.machine("vm-1"), shared.machine("gpu-1")
    told(reader, "head -c 5000000 /dev/urandom >/srv/work/file")
    assert told(reader, "cd /srv/work; sha256sum file") == told(
        store, "cd /srv/work; sha256sum file"
    )
    assert "sf-share-lab-test" in told(store, "stat -c %U /srv/work/file")
    work = told(reader, "grep ' /srv/work cifs ' /proc/mounts").split()[0]

    def refused(options: str) -> bool:
        command = f"timeout 60 mount -t cifs -o {options} {work} /mnt && echo mounted; true"
        said = told(reader, command)
        return "mount error" in said and "mounted" not in said.splitlines()

    named = "credentials=/etc/stagefleet-shares/lab-test.bob.credentials"
    assert refused("vers=3.1.1,seal,guest")
    assert refused("vers=3.1.1,seal,username=bob,password=wrong-password")
    assert refused(f"vers=2.1,{named}")
    # Signed, but for everybody to read on the way.
    assert "seal" in told(reader, "grep ' /srv/work cifs ' /proc/mounts")
    said = told(store, "smbstatus --configfile=/etc/stagefleet-shares/lab-test.smb.conf --shares")
    assert re.search(r"^work .*AES-", said, re.MULTILINE), said


def test_a_load_whose_server_falls_silent_fails_in_time_and_succeeds_after_it(
    shared: LabFleet,
) -> None:
    place = shared.built().place
    unpack = ssh(place, "vm-1", "sudo", "tar", "-x", "-C", "/root/py")
    told(shared.machine("vm-1"), "mkdir -p /root/py")
    root = Path(runtime.__file__).parent.parent
    packages = Path(pytest.__file__).parents[1]
    (metadata,) = packages.glob("stagefleet-*.dist-info")
    send(unpack, packages, *_PACKAGES, metadata.name)
    send(unpack, root, "runtime", "tests/support/shared_load.py")

    def loading() -> subprocess.Popen[str]:
        command = ssh(
            *(place, "vm-1", "sudo", "env", "PYTHONPATH=/root/py", "python3"),
            *("/root/py/tests/support/shared_load.py", "/srv/shared/m", "/root/kept", str(_BOUND)),
        )
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    store = shared.machine("vm-0")
    first = loading()
    assert first.stdout is not None
    assert first.stdout.readline() == "reading\n"
    fault.cut(store)
    try:
        said, _ = first.communicate("\n", timeout=_BOUND + 60)
    finally:
        fault.heal(store)
    assert first.returncode == 1
    found = re.match(r"failed ([0-9.]+) /srv/shared/m: nothing could be read for 10 s\n", said)
    assert found, said
    assert float(found[1]) >= _BOUND

    wanted = told(store, "sha256sum /srv/shared/m/block-0000.safetensors").split()[0]
    for _ in range(_TRIES):
        again = loading()
        said, _ = again.communicate("\n", timeout=120)
        if again.returncode == 0:
            break
    assert said == f"reading\nloaded {wanted}\n"


def test_a_reader_boots_while_its_store_is_off(shared: LabFleet) -> None:
    store, reader = shared.machine("vm-0"), shared.machine("vm-1")
    for machine in (store, reader):
        told(machine, "sync")
        machine.kill()
    shared.built().boot(["vm-1"])
    assert "srv-work.automount" not in told(reader, "systemctl --failed --plain --no-legend")
    looked = "timeout 100 ls /srv/shared/m 2>&1; echo $?"
    *said, code = told(reader, looked).splitlines()
    # By the mount's own limit, not by the test's (124).
    assert code == "2", said
    assert "No such device" in " ".join(said)
    shared.built().boot(["vm-0"])
    assert "block-0000.safetensors" in told(reader, "ls /srv/shared/m")


def test_the_second_run_changes_nothing(shared: LabFleet) -> None:
    found = shared.succeed("shares", "--limit", ",".join(HOSTS))
    assert {host: found.count(host, "changed") for host in HOSTS} == dict.fromkeys(HOSTS, 0)


def test_removing_leaves_what_was_shared_and_nothing_else(
    shared: LabFleet, before: dict[str, str]
) -> None:
    store, reader, work = (shared.machine(host) for host in ("vm-0", "vm-1", "gpu-1"))
    name = f"destroy_fleet={shared.site['name']}"
    shared.succeed("destroy", "-e", name, "--limit", ",".join(HOSTS))
    assert told(store, "exportfs -s").strip() == ""
    for machine in (store, reader):
        assert told(machine, _LEFT) == before[machine.host.name]
        assert "stagefleet" not in told(machine, "cat /proc/mounts")
    assert "nfs4" not in told(reader, "cat /proc/mounts")
    assert "block-0000.safetensors" in told(store, "ls /srv/shared/m")
    # The package stays, and the account that what was written belongs to.
    left = told(work, _LEFT)
    made = r"stagefleet-shares|srv-|-smb.service|/srv/stagefleet|^bob:"
    assert not re.search(made, left, re.MULTILINE)
    assert "file" in told(work, "ls /srv/work")
