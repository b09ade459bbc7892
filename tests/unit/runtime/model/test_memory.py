"""How much memory importing a model and serving a span take, measured in processes of their own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from runtime.model.manifest import Manifest, read_manifest

pytestmark = pytest.mark.slow

MIB: Final = 1 << 20
# Beyond the tensors: Python objects, the kernels' own buffers, one step's activations and mapped
# libraries that the first step touches. Measured: 32 MiB.
CONSTANT: Final = 64 * MIB

PEAK: Final = """
import json, sys
from pathlib import Path
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
"""
IMPORT: Final = """
from tests.support.random_models import import_random
before = peak()
import_random(Path(sys.argv[1]))
print(json.dumps(peak() - before))
"""
SERVE: Final = """
import torch
from runtime.engine.reference import load_engine
from runtime.spec.base import Span
before = peak()
span = Span(start=int(sys.argv[2]), end=int(sys.argv[3]))
engine = load_engine(Path(sys.argv[1]), span, device="cpu", dtype=sys.argv[4])
hidden = torch.randn(1, 8, engine.hidden_size)
engine.forward(engine.open((0,)), hidden)
if engine.span.end == engine.total_blocks:
    engine.logits(engine.open((0,)), hidden)
print(json.dumps(peak() - before))
"""


def measured(script: str, *arguments: object) -> int:
    """Return by how many bytes a process grew at its peak."""
    run = subprocess.run(
        [sys.executable, "-c", PEAK + script, *map(str, arguments)],
        check=True,
        cwd=Path(__file__).parents[4],
        stdout=subprocess.PIPE,
        timeout=120,
    )
    return int(json.loads(run.stdout))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A 1.7 GB model, and what importing it took."""
    directory = tmp_path_factory.mktemp("random") / "model"
    yield directory, measured(IMPORT, directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def manifest(imported: tuple[Path, int]) -> Manifest:
    return read_manifest(imported[0])


def test_import_holds_one_file_at_a_time(imported: tuple[Path, int], manifest: Manifest) -> None:
    largest = max(*manifest.block_bytes, manifest.embeddings_bytes, manifest.head_bytes)
    assert manifest.total_bytes > 1_600_000_000
    assert imported[1] < largest + CONSTANT


@pytest.mark.parametrize(("start", "end"), [(6, 10), (13, 16)])
def test_a_span_takes_its_own_tensors_and_a_constant(
    start: int, end: int, imported: tuple[Path, int], manifest: Manifest
) -> None:
    span = sum(manifest.block_bytes[start:end])
    if end == manifest.total_blocks:
        span += manifest.head_bytes
    grown = measured(SERVE, imported[0], start, end, "auto")
    assert span < grown < span + CONSTANT


def test_a_span_of_another_number_format_takes_one_more_block(
    imported: tuple[Path, int], manifest: Manifest
) -> None:
    span = 2 * sum(manifest.block_bytes[6:8])
    grown = measured(SERVE, imported[0], 6, 8, "float32")
    assert span < grown < span + manifest.block_bytes[7] + CONSTANT
