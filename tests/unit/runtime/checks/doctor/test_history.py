"""The reports that are kept: so many, the latest first, damaged ones left out."""

from pathlib import Path

import pytest

from runtime.checks.doctor import history
from runtime.checks.doctor.finding import report


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_the_last_one_of_its_kind_is_found() -> None:
    assert history.last("lab", "now") is None
    for at in (1.0, 3.0, 2.0):
        history.keep(report("lab", at, "now", []))
    history.keep(report("lab", 4.0, "before", []))
    history.keep(report("other", 5.0, "now", []))
    found = history.last("lab", "now")
    assert found is not None
    assert found.at == 3.0


def test_no_more_than_so_many_are_kept() -> None:
    paths = [history.keep(report("lab", float(at), "now", [])) for at in range(history.KEPT + 5)]
    left = sorted(history.directory("lab").iterdir())
    assert left == paths[5:]


def test_a_damaged_one_is_passed_over() -> None:
    history.keep(report("lab", 1.0, "now", []))
    history.keep(report("lab", 2.0, "now", [])).write_text("{")
    found = history.last("lab", "now")
    assert found is not None
    assert found.at == 1.0
