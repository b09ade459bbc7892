"""Which torch a host's environment gets: what the role asks for, and what pip makes of it."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch._dynamo  # noqa: F401 - Ansible, once loaded, would keep others from loading it
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from runtime.cli.project import ROOT
from runtime.spec.gpus.builds import BUILDS, CPU

ROLE = ROOT / "roles" / "runtime"
PINNED = (ROOT / "requirements" / "torch.txt").read_text().strip()
_PINNED_THERE = "lookup('ansible.builtin.file', runtime_source ~ '/requirements/torch.txt')"
VERSION = PINNED.removeprefix("torch==")


def asked(build: str, index: str) -> tuple[str, list[str]]:
    """Return the requirement and the arguments that the role gives pip."""
    variables = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    given: dict[str, Any] = {
        "runtime_source": str(ROOT),
        "runtime_torch_build": build,
        "runtime_torch_index": index,
    }
    templar = Templar(loader=DataLoader(), variables=given)
    text = variables["__runtime_torch"]
    assert _PINNED_THERE in text
    # Lookups are known to a whole Ansible only.
    text = text.replace(_PINNED_THERE, repr(PINNED))
    requirement = templar.template(trust_as_template(text))
    arguments = templar.template(trust_as_template(variables["__runtime_torch_arguments"]))
    return str(requirement).strip(), list(arguments)


def wheel(directory: Path, version: str) -> None:
    """Put a torch with nothing in it into an index of pip's."""
    place = directory / "torch"
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"torch-{version}-py3-none-any.whl"
    inside = f"torch-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{inside}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
        )
        archive.writestr(
            f"{inside}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{inside}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    link = f'<a href="{path.as_uri()}#sha256={digest}">{path.name}</a>\n'
    (place / "index.html").write_text(f"<html><body>{link}</body></html>")


def taken(tmp_path: Path, build: str, index: str) -> str:
    """Return the version of torch that pip would install, or what it says."""
    requirement, arguments = asked(build, index)
    target = tmp_path / f"taken-{build}"
    usual = (tmp_path / "usual").as_uri()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(target)),
            *("--index-url", usual, *arguments, requirement),
        ],
        # Nothing of this machine's own configuration.
        env={
            "PATH": os.environ["PATH"],
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_RETRIES": "0",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = [path.name.split("-")[1] for path in target.glob("*.whl")]
    return found[0] if found else done.stderr


@pytest.fixture
def indexes(tmp_path: Path) -> Path:
    """The usual index, and torch's own ones."""
    wheel(tmp_path / "usual", VERSION)
    for build in (CPU, *(build.name for build in BUILDS)):
        wheel(tmp_path / "torch" / build, f"{VERSION}+{build}")
    return tmp_path


def test_the_role_asks_for_a_build_by_its_full_version() -> None:
    assert asked("cu126", "https://torch.example/whl") == (
        f"{PINNED}+cu126",
        ["--extra-index-url", "https://torch.example/whl/cu126"],
    )
    assert asked(CPU, "") == (PINNED, [])


@pytest.mark.parametrize("build", [CPU, *(build.name for build in BUILDS)])
def test_pip_takes_the_build_that_fits(indexes: Path, build: str) -> None:
    assert taken(indexes, build, (indexes / "torch").as_uri()) == f"{VERSION}+{build}"


def test_without_torchs_index_any_build_serves_a_processor_and_no_gpu(indexes: Path) -> None:
    unreachable = "http://127.0.0.1:9/whl"
    assert taken(indexes, CPU, unreachable) == VERSION
    assert "No matching distribution" in taken(indexes, "cu126", unreachable)
