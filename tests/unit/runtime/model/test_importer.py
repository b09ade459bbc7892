"""Import as a whole: complete or not there, the same twice, and never over something else."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from runtime.errors import ModelError
from runtime.model.checkpoint import CheckpointSource
from runtime.model.gguf_file import GgufSource
from runtime.model.importer import find_source, import_model
from runtime.model.manifest import MANIFEST, read_manifest
from runtime.model.source import Source
from tests.support.gguf_files import write_gguf
from tests.support.models import save_checkpoint, tiny_config, tiny_model


@pytest.fixture
def source(tmp_path: Path) -> Source:
    model = tiny_model(tiny_config("llama"))
    return CheckpointSource(save_checkpoint(model, tmp_path / "checkpoint"))


def entries(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_the_same_import_gives_the_same_bytes(source: Source, tmp_path: Path) -> None:
    first = import_model(source, tmp_path / "a").manifest
    second = import_model(source, tmp_path / "b").manifest
    assert first == second
    for file in first.files:
        assert (tmp_path / "a" / file.name).read_bytes() == (
            tmp_path / "b" / file.name
        ).read_bytes()


def test_the_digest_is_of_the_contents_not_of_the_name(source: Source, tmp_path: Path) -> None:
    first = import_model(source, tmp_path / "a", name="one").manifest
    other = import_model(source, tmp_path / "b", name="two").manifest
    halved = import_model(source, tmp_path / "c", dtype="bfloat16").manifest
    assert (first.name, other.name) == ("one", "two")
    assert first.digest == other.digest
    assert halved.digest != first.digest
    assert sum(halved.block_bytes) * 2 == sum(first.block_bytes)


def test_importing_again_changes_nothing(source: Source, tmp_path: Path) -> None:
    first = import_model(source, tmp_path / "model")
    written = (tmp_path / "model" / "block-0000.safetensors").stat().st_mtime_ns
    for dtype in ("auto", "float32"):
        again = import_model(source, tmp_path / "model", dtype=dtype)
        assert (first.changed, again.changed) == (True, False)
        assert again.manifest == first.manifest
    assert (tmp_path / "model" / "block-0000.safetensors").stat().st_mtime_ns == written


def test_another_import_is_not_overwritten_unless_forced(source: Source, tmp_path: Path) -> None:
    import_model(source, tmp_path / "model")
    for changes in ({"dtype": "bfloat16"}, {"name": "other"}):
        with pytest.raises(ModelError, match="holds another import") as caught:
            import_model(source, tmp_path / "model", **changes)  # type: ignore[arg-type]  # mypy widens the values
        assert "--force" in caught.value.hint
    forced = import_model(source, tmp_path / "model", dtype="bfloat16", force=True)
    assert forced.changed
    assert read_manifest(tmp_path / "model").dtype == "bfloat16"
    assert entries(tmp_path) == {"checkpoint", "model"}


def test_a_changed_source_is_noticed(source: Source, tmp_path: Path) -> None:
    import_model(source, tmp_path / "model", name="tiny")
    changed = CheckpointSource(
        save_checkpoint(tiny_model(tiny_config("llama"), seed=1), tmp_path / "checkpoint")
    )
    with pytest.raises(ModelError, match="holds another import"):
        import_model(changed, tmp_path / "model", name="tiny")


def test_a_damaged_model_is_imported_again_when_forced(source: Source, tmp_path: Path) -> None:
    import_model(source, tmp_path / "model")
    (tmp_path / "model" / "block-0002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"damaged model: .*block-0002\.safetensors is missing"):
        import_model(source, tmp_path / "model")
    assert import_model(source, tmp_path / "model", force=True).changed


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_model_is_left_alone(source: Source, tmp_path: Path, force: bool) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("")
    for name in ("mine", "file"):
        with pytest.raises(ModelError, match="is not a model directory"):
            import_model(source, tmp_path / name, force=force)
    assert entries(tmp_path / "mine") == {"thesis.txt"}


def test_an_empty_directory_is_used(source: Source, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert import_model(source, tmp_path / "model").changed


def test_a_failed_import_leaves_nothing(source: Source, tmp_path: Path) -> None:
    def fail(file: str, _done: int, _total: int) -> None:
        if file == "block-0002.safetensors":
            assert entries(tmp_path) == {"checkpoint", "model.partial"}
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_model(source, tmp_path / "model", report=fail)
    assert entries(tmp_path) == {"checkpoint"}
    assert import_model(source, tmp_path / "model").changed


KILLED = """
import os, signal, sys
from pathlib import Path
from runtime.model.importer import find_source, import_model
def die(file, done, total):
    if file == "block-0002.safetensors":
        os.kill(os.getpid(), signal.SIGKILL)
import_model(find_source(sys.argv[1]), Path(sys.argv[2]), report=die)
"""


def test_a_killed_import_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tiny_model(tiny_config("llama")), tmp_path / "checkpoint")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, checkpoint, tmp_path / "model"],
        check=False,
        cwd=Path(__file__).parents[4],
    )
    assert killed.returncode == -signal.SIGKILL
    assert entries(tmp_path) == {"checkpoint", "model.partial"}
    assert MANIFEST not in entries(tmp_path / "model.partial")
    # What an older version left there does not get into the model either.
    (tmp_path / "model.partial" / "stray").mkdir()
    (tmp_path / "model.partial" / "stray.safetensors").touch()
    manifest, changed = import_model(find_source(str(checkpoint)), tmp_path / "model")
    assert changed
    assert entries(tmp_path) == {"checkpoint", "model"}
    assert entries(tmp_path / "model") == {MANIFEST, *(file.name for file in manifest.files)}


def test_two_imports_to_one_place_do_not_mix(source: Source, tmp_path: Path) -> None:
    def import_too(_file: str, _done: int, _total: int) -> None:
        with pytest.raises(ModelError, match="another import is writing"):
            import_model(source, tmp_path / "model")

    assert import_model(source, tmp_path / "model", report=import_too).changed


def test_a_full_disk_is_noticed_before_writing(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(total=100, used=99, free=1_500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(ModelError, match=r"has 0\.00 GB free; the model needs 0\.07 GB"):
        import_model(source, tmp_path / "deep" / "model")
    assert entries(tmp_path) == {"checkpoint"}


def test_files_can_be_read_by_a_servers_own_user(source: Source, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        import_model(source, tmp_path / "model")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {0o644}


def test_numbers_too_large_for_float16_are_refused(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("llama"))
    with torch.no_grad():
        model.model.norm.weight[3] = 1e6
    checkpoint = save_checkpoint(model, tmp_path / "checkpoint")
    with pytest.raises(ModelError, match=r"model\.norm\.weight has numbers too large for float16"):
        import_model(CheckpointSource(checkpoint), tmp_path / "model", dtype="float16")
    assert import_model(CheckpointSource(checkpoint), tmp_path / "model", dtype="bfloat16").changed


def test_progress_reaches_the_whole(source: Source, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    manifest, _ = import_model(source, tmp_path / "model", report=lambda *step: said.append(step))
    assert [file for file, _, _ in said] == [
        "embeddings.safetensors",
        "head.safetensors",
        *(f"block-{block:04d}.safetensors" for block in range(manifest.total_blocks)),
    ]
    total = sum(manifest.block_bytes) + manifest.embeddings_bytes + manifest.head_bytes
    assert said[-1][1:] == (total, total)


def test_sources_are_found_by_what_they_are(source: Source, tmp_path: Path) -> None:
    gguf = write_gguf(tmp_path / "Tiny-1B.gguf")
    found = find_source(str(gguf))
    assert isinstance(found, GgufSource)
    assert found.name == "Tiny-1B"
    assert find_source(str(tmp_path / "checkpoint")).name == source.name == "checkpoint"
    asked: list[str] = []

    def fetch(identifier: str) -> Path:
        asked.append(identifier)
        return tmp_path / "checkpoint"

    assert find_source("owner/Some-Model-0.5B@v1", fetch).name == "Some-Model-0.5B"
    assert asked == ["owner/Some-Model-0.5B@v1"]


@pytest.mark.parametrize("text", ["nothing-here", "lost/file.gguf", "a/b/c", "/no/such"])
def test_what_is_not_there_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="there is no"):
        find_source(text)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="is no model that can be imported"):
        find_source(str(tmp_path / "model.onnx"))
