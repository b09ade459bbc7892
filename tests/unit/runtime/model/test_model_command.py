"""`stagefleet model`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runtime.cli.model import app
from runtime.errors import ModelError
from tests.support.models import save_checkpoint, tiny_config, tiny_model

run = CliRunner().invoke


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_model(tiny_config("llama"))
    return save_checkpoint(model, tmp_path_factory.mktemp("model") / "tiny")


def test_import_show_and_verify(checkpoint: Path, tmp_path: Path) -> None:
    model = str(tmp_path / "model")
    result = run(app, ["import", str(checkpoint), model])
    assert result.exit_code == 0
    assert result.stdout.startswith("imported tiny: llama, 5 blocks, float32")
    assert "importing: 100 %" in result.stderr
    again = run(app, ["import", str(checkpoint), model])
    assert again.stdout.startswith("already imported, nothing to do: tiny")

    shown = run(app, ["show", model])
    assert "blocks 0 to 4" in shown.stdout
    manifest = json.loads(run(app, ["show", model, "--json"]).stdout)
    assert manifest["digest"] in shown.stdout

    assert run(app, ["verify", model]).exit_code == 0
    verified = json.loads(run(app, ["verify", model, "--json"]).stdout)
    assert verified == {"ok": True, "digest": manifest["digest"], "bad": []}


def test_import_as_json_with_options(checkpoint: Path, tmp_path: Path) -> None:
    options = ["--dtype", "bfloat16", "--name", "mine", "--json"]
    result = run(app, ["import", str(checkpoint), str(tmp_path / "model"), *options])
    said = json.loads(result.stdout)
    assert (said["changed"], said["name"], said["dtype"]) == (True, "mine", "bfloat16")
    assert run(app, ["import", str(checkpoint), "x", "--dtype", "int8"]).exit_code == 2


def test_verify_lists_every_bad_file_and_fails(checkpoint: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    run(app, ["import", str(checkpoint), str(model)])
    (model / "block-0001.safetensors").unlink()
    content = bytearray((model / "head.safetensors").read_bytes())
    content[-1] ^= 1
    (model / "head.safetensors").write_bytes(content)
    result = run(app, ["verify", str(model)])
    assert result.exit_code == 1
    assert "block-0001.safetensors is missing" in result.stdout
    assert "head.safetensors has other contents" in result.stdout
    said = json.loads(run(app, ["verify", str(model), "--json"]).stdout)
    assert [bad["file"] for bad in said["bad"]] == ["block-0001.safetensors", "head.safetensors"]


def test_errors_are_left_to_the_command_line(tmp_path: Path) -> None:
    for arguments in (["show"], ["verify"], ["import", str(tmp_path / "no")]):
        assert isinstance(run(app, [*arguments, str(tmp_path / "lost")]).exception, ModelError)
