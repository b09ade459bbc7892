"""A fact is said once: ports in the catalogue, pages made by the code they describe."""

import re
import subprocess
from pathlib import Path

import pytest

from runtime.cli.project import ROOT
from runtime.cli.reference import pages
from runtime.spec.services import CATALOGUE, Place, stage_port

TRACKED = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
]
PORTS = {
    stage_port(service, stage) if service.runs_on is Place.EVERY_STAGE else service.port
    for service in CATALOGUE
    for stage in range(6)
}
# The catalogue itself, what operators write, what is generated or prose, and what is tested.
MAY_NAME_PORTS = ("runtime/spec/services.py", "inventories/", "docs/", "tests/", "CHANGELOG.md")


@pytest.mark.parametrize("path", sorted(pages()), ids=lambda path: path.name)
def test_generated_pages_are_up_to_date(path: Path) -> None:
    assert path.read_text() == pages()[path], "run: ./fleet reference"


def test_no_port_is_named_outside_the_catalogue() -> None:
    # 22 is too common a number to look for; ssh's port is Ansible's business elsewhere.
    number = re.compile(rf"\b({'|'.join(str(port) for port in sorted(PORTS - {22}))})\b")
    found = [
        f"{path.relative_to(ROOT)}:{count}: {line.strip()}"
        for path in TRACKED
        if path.suffix not in {".lock", ".json"}
        and not str(path.relative_to(ROOT)).startswith(MAY_NAME_PORTS)
        for count, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if number.search(line)
    ]
    assert found == []


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in TRACKED
        if page.suffix == ".md" and page.exists()
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_key_of_the_inventory_has_a_meaning() -> None:
    page = (ROOT / "docs" / "reference" / "inventory.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.endswith("|  |")] == []


def test_no_file_is_too_long_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in TRACKED
        if path.suffix == ".py" and path.exists()
    }
    assert {name: count for name, count in long.items() if count > 400} == {}
