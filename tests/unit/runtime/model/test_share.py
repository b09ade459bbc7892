"""Models on a share: every reader has the same bytes, or says which file is not as it should be."""

import hashlib
import os
import shutil
import threading
from pathlib import Path

import pytest

from runtime.errors import ModelError
from runtime.model import share
from runtime.model.manifest import MANIFEST, Manifest, read_manifest
from runtime.model.share import local_model, watched
from runtime.spec.base import Span
from tests.support.models import BLOCKS, import_tiny

WHOLE = Span(start=0, end=BLOCKS)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_tiny("llama", tmp_path_factory.mktemp("share"))[1]


@pytest.fixture
def model(imported: Path, tmp_path: Path) -> Path:
    """A model of its own, which a test may damage."""
    return Path(shutil.copytree(imported, tmp_path / "model"))


def load(model: Path, cache: Path | None, span: Span = WHOLE, seconds: float = 20) -> Path:
    return local_model(model, span, embeddings=span.start == 0, cache=cache, seconds=seconds)


def names(kept: Path) -> set[str]:
    return {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}


def test_what_is_kept_is_what_the_span_needs_and_has_the_manifests_bytes(
    model: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(model)
    span = Span(start=1, end=3)
    kept = load(model, tmp_path / "cache", span)
    wanted = manifest.files_for(span)
    assert names(kept) == {MANIFEST, *(file.name for file in wanted)}
    for file in wanted:
        assert hashlib.sha256((kept / file.name).read_bytes()).hexdigest() == file.sha256
    assert read_manifest(kept).digest == manifest.digest


def test_the_second_load_reads_only_what_is_lacking(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    kept = load(model, cache, Span(start=1, end=3))
    before = {path: path.stat().st_ino for path in kept.iterdir()}
    # What is kept is not asked for again: on the share it could be gone.
    (model / "block-0001.safetensors").unlink()
    assert load(model, cache, Span(start=1, end=4)) == kept
    assert {path: path.stat().st_ino for path in before} == before
    assert (kept / "block-0003.safetensors").exists()


def test_a_model_that_changes_while_it_is_read_is_named_file_by_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = ("block-0002.safetensors", "block-0004.safetensors")
    copied = share._copied

    def while_it_is_read(source: Path, target: Path, tick: share.Tick) -> tuple[int, str]:
        if source.name == "block-0000.safetensors":
            for name in changed:
                with (model / name).open("r+b") as file:
                    file.seek(-1, os.SEEK_END)
                    last = file.read(1)[0]
                    file.seek(-1, os.SEEK_END)
                    file.write(bytes([last ^ 1]))
        return copied(source, target, tick)

    monkeypatch.setattr(share, "_copied", while_it_is_read)
    with pytest.raises(ModelError) as found:
        load(model, tmp_path / "cache")
    said = str(found.value)
    for name in changed:
        assert f"{name} has other contents than the manifest says" in said
    assert "block-0001" not in said
    # What is damaged is not kept, what is whole is.
    (kept,) = (tmp_path / "cache").iterdir()
    assert not {*changed} & names(kept)
    assert "block-0001.safetensors" in names(kept)


def test_without_a_cache_every_file_is_compared_and_nothing_is_written(
    model: Path, tmp_path: Path
) -> None:
    before = names(model)
    assert load(model, None) == model
    (model / "head.safetensors").write_bytes(b"short")
    (model / "block-0001.safetensors").unlink()
    with pytest.raises(ModelError) as found:
        load(model, None)
    said = str(found.value)
    assert "head.safetensors has 5 bytes instead of" in said
    assert "block-0001.safetensors is missing" in said
    assert names(model) == before - {"block-0001.safetensors"}
    assert not (tmp_path / "cache").exists()


def test_a_load_that_was_interrupted_leaves_nothing_that_looks_whole(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(source: Path, target: Path, _: share.Tick) -> tuple[int, str]:
        target.write_bytes(source.read_bytes()[:10])
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(share, "_copied", interrupted)
        with pytest.raises(ModelError, match="cannot be read: Input/output error"):
            load(model, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    assert names(kept) == set()
    load(model, tmp_path / "cache")
    assert names(kept) >= {MANIFEST, "head.safetensors"}


def test_a_server_that_is_silent_is_given_up_and_read_once_it_answers(
    model: Path, tmp_path: Path
) -> None:
    """A pipe without a writer: whoever opens it waits in the kernel, as for a share."""
    block = model / "block-0003.safetensors"
    content = block.read_bytes()
    block.unlink()
    os.mkfifo(block)
    with pytest.raises(ModelError, match=r"nothing could be read for 0.5 s\n.*is silent"):
        load(model, tmp_path / "cache", seconds=0.5)
    # Let the thread that still waits end.
    with block.open("wb"):
        pass
    block.unlink()
    block.write_bytes(content)
    kept = load(model, tmp_path / "cache")
    assert (kept / block.name).read_bytes() == content


def test_who_goes_on_is_waited_for_however_long_it_takes() -> None:
    step = threading.Event()

    def slowly(tick: share.Tick) -> str:
        for _ in range(8):
            step.wait(0.1)  # is never set: each step takes its time
            tick()
        return "done"

    assert watched(slowly, 0.5, Path("/share")) == "done"


def test_what_another_model_has_left_is_removed(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "0123456789abcdef").mkdir(parents=True)
    kept = load(model, cache)
    assert list(cache.iterdir()) == [kept]


def test_a_disk_without_room_is_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(ModelError, match=r"(?s)has room for 1 MiB.*local_cache to false"):
        load(model, tmp_path / "cache")


def test_a_manifest_that_was_changed_is_refused(model: Path, tmp_path: Path) -> None:
    manifest = read_manifest(model)
    other = Manifest.model_validate(manifest.model_dump() | {"hidden_size": 64})
    (model / MANIFEST).write_text(other.model_dump_json())
    with pytest.raises(ModelError, match="was changed: its digest does not fit"):
        load(model, tmp_path / "cache")
