"""Manifests and checks: a directory that cannot be served is told apart, in words."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from runtime.errors import ModelError
from runtime.model.check import bad_files, check_model
from runtime.model.manifest import FORMAT, MANIFEST, Manifest, read_manifest
from runtime.spec.base import Span
from tests.support.models import import_tiny


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_tiny("llama", tmp_path_factory.mktemp("llama"), tie_word_embeddings=True)[1]


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "model")


def change(directory: Path, fields: Mapping[str, object], *, sign: bool = False) -> None:
    """Write fields into the manifest, with or without the digest that fits them."""
    path = directory / MANIFEST
    content = {**json.loads(path.read_text()), **fields}
    if sign:
        content["digest"] = Manifest.model_validate_json(json.dumps(content)).compute_digest()
    path.write_text(json.dumps(content))


def names(manifest: Manifest, start: int, end: int, **edges: bool) -> set[str]:
    return {file.name for file in manifest.files_for(Span(start=start, end=end), **edges)}


def test_a_whole_model_passes(model: Path) -> None:
    manifest = check_model(model, deep=True)
    assert manifest == check_model(model, Span(start=0, end=5)) == read_manifest(model)
    assert manifest.total_bytes == sum(
        path.stat().st_size for path in model.iterdir() if path.name != MANIFEST
    )


def test_a_server_needs_the_files_of_its_span_only(model: Path) -> None:
    manifest = read_manifest(model)
    blocks = {f"block-000{block}.safetensors" for block in (1, 2)}
    assert names(manifest, 1, 3) == {"config.json", *blocks}
    last = {"config.json", "block-0004.safetensors", "head.safetensors", "embeddings.safetensors"}
    assert names(manifest, 4, 5) == last
    first = names(manifest, 0, 1)
    assert {"embeddings.safetensors", "tokenizer.json", "generation_config.json"} <= first
    assert not {"head.safetensors", "block-0001.safetensors"} & first
    assert names(manifest, 4, 5, head=False) == {"config.json", "block-0004.safetensors"}
    assert "tokenizer.json" in names(manifest, 0, 0)


def test_a_head_of_its_own_needs_no_embeddings(tmp_path: Path) -> None:
    manifest = read_manifest(import_tiny("llama", tmp_path)[1])
    assert "embeddings.safetensors" not in names(manifest, 4, 5)


def test_files_of_other_spans_may_be_absent(model: Path) -> None:
    for path in model.iterdir():
        if path.name not in {MANIFEST, "config.json", "block-0001.safetensors"}:
            path.unlink()
    check_model(model, Span(start=1, end=2), deep=True)
    with pytest.raises(ModelError, match=r"block-0002\.safetensors is missing"):
        check_model(model, Span(start=1, end=3))


def test_a_truncated_file_is_named_with_both_sizes(model: Path) -> None:
    path = model / "block-0003.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(
        ModelError, match=rf"block-0003\.safetensors has {size - 7} bytes instead of {size}"
    ) as caught:
        check_model(model)
    assert "copy the named files again" in caught.value.hint


def test_a_changed_byte_is_found_when_asked_for(model: Path) -> None:
    path = model / "block-0003.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    manifest = check_model(model)
    with pytest.raises(ModelError, match=r"block-0003\.safetensors has other contents"):
        check_model(model, deep=True)
    assert [bad.name for bad in bad_files(model, manifest.files, deep=True)] == [path.name]


def test_many_bad_files_are_counted(model: Path) -> None:
    for path in model.glob("block-*"):
        path.unlink()
    with pytest.raises(ModelError, match=r"\(and 2 more files\)"):
        check_model(model)


def test_a_missing_directory_and_one_that_was_not_imported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model directory") as caught:
        check_model(tmp_path / "lost")
    assert f"stagefleet model import SOURCE {tmp_path / 'lost'}" in caught.value.hint
    with pytest.raises(ModelError, match=r"has no stagefleet\.json") as caught:
        check_model(tmp_path)
    assert f"stagefleet model import {tmp_path}" in caught.value.hint


def test_an_unsupported_family_is_named(model: Path) -> None:
    change(model, {"model_type": "mamba"}, sign=True)
    with pytest.raises(ModelError, match="'mamba' are not supported") as caught:
        check_model(model)
    assert "llama" in caught.value.hint


def test_a_newer_format_asks_for_an_update(model: Path) -> None:
    change(model, {"format": FORMAT + 1, "something_new": True})
    with pytest.raises(ModelError, match=f"has format {FORMAT + 1}") as caught:
        read_manifest(model)
    assert "update stagefleet" in caught.value.hint


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 33}, "was changed"),
        ({"digest": "0" * 64}, "was changed"),
        ({"total_blocks": 6}, "block_bytes has 5 entries for 6 blocks"),
        ({"files": []}, "files lists no"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"files": [{"name": "../../etc/passwd", "bytes": 1, "sha256": "0" * 64}]}, "files"),
        ({"surprise": 1}, "unknown key 'surprise'"),
    ],
)
def test_a_manifest_that_was_edited_is_refused(
    fields: dict[str, object], message: str, model: Path
) -> None:
    change(model, fields)
    with pytest.raises(ModelError, match=message):
        read_manifest(model)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_manifest_that_is_no_record_is_refused(text: str, model: Path) -> None:
    (model / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=MANIFEST):
        read_manifest(model)


def test_a_span_past_the_model_is_refused(model: Path) -> None:
    with pytest.raises(ModelError, match=r"\[4, 9\) reaches past the model's 5 blocks"):
        check_model(model, Span(start=4, end=9))
