"""What is run in the Linux of a Windows machine, run in a copy of this machine's system.

The Windows around it is not there; that part has never run.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.cli.project import ROOT
from tests.support.system_copy import SystemCopy, obstacle

pytestmark = pytest.mark.slow

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPublicKeyOfSomebody operator@desk"
_SSHD = "/etc/ssh/sshd_config.d/stagefleet.conf"


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[SystemCopy]:
    reason = obstacle()
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    found = SystemCopy(tmp_path / "system", [])
    # What would be installed is there: this test has no way out.
    for program in ("/usr/sbin/sshd", "/usr/bin/sudo", "/usr/bin/python3"):
        if found.attempt("test", "-e", program).returncode != 0:
            found.write(program, "#!/bin/sh\n", 0o755)
    yield found
    found.close()


def run(copy: SystemCopy, check: str, port: int = 2222) -> str:
    text = (ROOT / "roles" / "windows_node" / "files" / "linux.ps1").read_text()
    script = text.split("@'\n", 1)[1].split("\n'@", 1)[0]
    # As PowerShell hands it over.
    copy.write("/tmp/script", f"{script}\n#\r\n")
    words = f"/bin/sh -s -- fleet {port} '{KEY}' {check} </tmp/script"
    return copy.run("sh", "-c", words).strip()


def test_the_linux_lets_ansible_in_and_a_second_run_changes_nothing(copy: SystemCopy) -> None:
    assert run(copy, "yes") == "changed=yes"
    assert copy.attempt("id", "fleet").returncode != 0

    assert run(copy, "no") == "changed=yes"
    assert copy.run("cat", "/home/fleet/.ssh/authorized_keys").strip() == KEY
    assert copy.run("stat", "--format=%U %a", "/home/fleet/.ssh").split() == ["fleet", "700"]
    assert copy.run("stat", "--format=%a", "/home/fleet/.ssh/authorized_keys").strip() == "600"
    assert copy.run("stat", "--format=%a", "/etc/sudoers.d/fleet").strip() == "440"
    assert "Port 2222\nPasswordAuthentication no\nPermitRootLogin no" in copy.run("cat", _SSHD)
    assert "systemd=true" in copy.run("cat", "/etc/wsl.conf")

    assert run(copy, "no") == "changed="
    assert run(copy, "no", port=2223) == "changed=yes"
    assert "Port 2223" in copy.run("cat", _SSHD)
