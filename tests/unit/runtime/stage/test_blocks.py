"""What a server loads: how many blocks, measured when, and what it expects beforehand."""

from pathlib import Path

import pytest

from runtime.checks.config import Checked, checked
from runtime.errors import ConfigError
from runtime.spec.base import Span
from runtime.spec.stage import StageConfig
from runtime.stage.blocks import Blocks, num_blocks
from runtime.stage.notebook import PLACE
from tests.support.models import import_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_tiny("llama", tmp_path_factory.mktemp("model"))[1]


def ready(model: Path, **fields: object) -> Checked:
    """Return the configuration of a balanced server."""
    settings = {
        "model": model,
        "identity": model,
        "stage": 1,
        "use_load_balancing": True,
        "num_blocks": 2,
        "kv_cache_mib": 1,
        "threads": 1,
    }
    return checked(StageConfig.model_validate(settings | fields))


def test_as_many_blocks_as_memory_holds(model: Path) -> None:
    assert num_blocks(ready(model)) == 2
    # A tiny model fits as a whole.
    assert num_blocks(ready(model, num_blocks="auto")) == 5


@pytest.mark.parametrize(
    ("wanted", "named"), [(2, "num_blocks 2 needs"), ("auto", "1 block needs")]
)
def test_what_memory_does_not_hold_is_refused_before_it_is_loaded(
    wanted: object, named: str, model: Path
) -> None:
    with pytest.raises(ConfigError, match=named):
        num_blocks(ready(model, num_blocks=wanted, kv_cache_mib=1 << 40))


async def test_blocks_are_loaded_beside_others_and_served_or_dropped(model: Path) -> None:
    blocks = Blocks(ready(model))
    try:
        assert not blocks.keeps_both(2)
        before = await blocks.load(Span(start=0, end=2))
        await blocks.measure()
        assert blocks.keeps_both(2)
        assert await blocks.load_beside(Span(start=2, end=5)) > 0
        blocks.drop()
        with pytest.raises(ValueError, match="beside"):
            blocks.switch()
        assert blocks.worker is before
        speed = await blocks.load_beside(Span(start=3, end=5))
        assert blocks.switch() is before
        assert blocks.worker is not None
        assert blocks.span == blocks.worker.engine.span == Span(start=3, end=5)
        assert blocks.throughput() == speed
        assert blocks.speeds is not None
        before.stop()
    finally:
        blocks.stop()


async def test_the_next_start_expects_what_was_measured(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PLACE, str(tmp_path))
    first = Blocks(ready(model))
    assert await first.expected_throughput(2) > 0
    assert "blocks='[0, 1)'" in capsys.readouterr().out
    await first.load(Span(start=0, end=2))
    await first.measure()
    first.stop()
    capsys.readouterr()
    again = Blocks(ready(model))
    expected = await again.expected_throughput(2)
    # Nothing was loaded for it; and it is per block, however many there were.
    assert "loading" not in capsys.readouterr().out
    assert await again.expected_throughput(1) == pytest.approx(2 * expected)
