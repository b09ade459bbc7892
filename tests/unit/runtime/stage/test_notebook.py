"""What is kept on disk of measurements, and what is not believed."""

from pathlib import Path

import pytest

from runtime.stage.notebook import PLACE, Notebook

ABOUT = {"model": "abc", "device": "a cpu", "threads": "2"}


def test_what_was_noted_is_known_at_the_next_start(tmp_path: Path) -> None:
    Notebook(tmp_path).write(ABOUT, 0.25)
    assert Notebook(tmp_path).block_seconds(ABOUT) == 0.25
    Notebook(tmp_path).write(ABOUT, 0.5)
    assert Notebook(tmp_path).block_seconds(ABOUT) == 0.5
    # Nothing is left of how it was written.
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("key", ABOUT)
def test_a_note_about_anything_else_is_none(key: str, tmp_path: Path) -> None:
    Notebook(tmp_path).write(ABOUT, 0.25)
    assert Notebook(tmp_path).block_seconds(ABOUT | {key: "other"}) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"about": {}, "block_seconds": 1}',
        b'{"about": {"model": "abc", "device": "a cpu", "threads": "2"}, "block_seconds": -1}',
        b'{"about": {"model": "abc", "device": "a cpu", "threads": "2"}, "block_seconds": 1e99}',
        b'{"about": {}, "block_seconds": 1, "more": 2}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_note_is_ignored_by_name_and_replaced(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = Notebook(tmp_path)
    notebook.write(ABOUT, 0.25)
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    assert notebook.block_seconds(ABOUT) is None
    said = capsys.readouterr().out
    assert "a note is ignored" in said
    assert path.name in said
    notebook.write(ABOUT, 0.25)
    assert notebook.block_seconds(ABOUT) == 0.25


def test_without_a_place_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    for notebook in (Notebook(None), Notebook.here({}), Notebook(tmp_path / "missing")):
        notebook.write(ABOUT, 0.25)
        assert notebook.block_seconds(ABOUT) is None
    assert not list(tmp_path.iterdir())


def test_systemd_says_where_the_place_is(tmp_path: Path) -> None:
    Notebook.here({PLACE: f"{tmp_path}:/elsewhere"}).write(ABOUT, 0.25)
    assert Notebook(tmp_path).block_seconds(ABOUT) == 0.25
