"""The commands that run on hosts, as their users call them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.spec.stage import StageConfig
from tests.support.models import import_tiny
from tests.support.swarm import make_fleet, prepare


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "runtime", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fleet")
    plan = prepare(make_fleet(root, import_tiny("llama", root)[1], (2,)))
    return Path(plan.stages[1].config_path)


def changed(config: Path, tmp_path: Path, **fields: object) -> str:
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(json.loads(config.read_text()) | fields))
    return str(path)


def test_help_lists_every_field_of_the_configuration() -> None:
    done = run("serve", "--help")
    assert done.returncode == 0
    assert all(f"--{name} " in done.stdout for name in StageConfig.model_fields)


def test_a_good_configuration_is_told_in_one_line(config: Path) -> None:
    done = run("check-config", str(config))
    assert (done.returncode, done.stdout) == (0, "stage 1 serves blocks [2, 5) of tiny-llama\n")


def test_in_balanced_mode_stage_0_has_no_block(config: Path, tmp_path: Path) -> None:
    balanced = changed(config, tmp_path, stage=0, use_load_balancing=True)
    done = run("check-config", balanced)
    assert (done.returncode, done.stdout) == (0, "stage 0 serves blocks [0, 0) of tiny-llama\n")


def test_in_balanced_mode_other_stages_choose_their_blocks(config: Path, tmp_path: Path) -> None:
    balanced = changed(config, tmp_path, use_load_balancing=True, num_blocks=2)
    done = run("check-config", balanced)
    said = "stage 1 serves 2 blocks of its own choice of tiny-llama\n"
    assert (done.returncode, done.stdout) == (0, said)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": "/nowhere"}, "there is no model directory /nowhere"),
        ({"splits": [2, 5], "stage": 2}, "the model's blocks are 0 to 4"),
        ({"splits": [9], "total_blocks": 20}, "total_blocks is 20, but the model"),
        ({"max_length": 100000}, "the model was made for 256 tokens"),
        ({"splitz": [2]}, "unknown key 'splitz'; did you mean 'splits'?"),
        ({"identity": None}, "no identity: servers talk over mutual TLS only"),
        (
            {"use_load_balancing": True, "num_blocks": 6, "total_blocks": None},
            "num_blocks is 6, but the model",
        ),
    ],
)
def test_a_configuration_that_cannot_be_served_is_refused(
    config: Path, tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    done = run("check-config", changed(config, tmp_path, **fields))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_refuses_what_check_config_refuses(config: Path, tmp_path: Path) -> None:
    done = run("serve", "--config", changed(config, tmp_path, model="/nowhere"))
    assert done.returncode == 1
    assert "there is no model directory /nowhere" in done.stderr


def test_a_truncated_model_is_refused_by_its_file(config: Path, tmp_path: Path) -> None:
    fields = json.loads(config.read_text())
    model = tmp_path / "model"
    model.mkdir()
    for file in Path(fields["model"]).iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    os.truncate(model / "block-0003.safetensors", 100)
    done = run("check-config", changed(config, tmp_path, model=str(model)))
    assert done.returncode == 1
    assert "block-0003.safetensors has 100 bytes instead of" in done.stderr


def test_a_wrong_flag_is_a_usage_error() -> None:
    done = run("serve", "--stage", "1", "--splits", "8,16", "--model", "/m", "--dht_prot", "1")
    assert done.returncode == 2
    assert "--dht_prot" in done.stderr


def test_impossible_flags_are_told_in_words() -> None:
    done = run("serve", "--stage", "1", "--splits", "8,4", "--model", "/m")
    assert done.returncode == 1
    assert "stages 1 and 2 overlap" in done.stderr


def test_health_of_a_server_that_does_not_run(config: Path) -> None:
    done = run("health", "--config", str(config), "--timeout", "2")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
