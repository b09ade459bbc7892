"""Downloads from the hub, with a stand-in for it."""

from pathlib import Path

import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from runtime.errors import ModelError
from runtime.model.hub import download, is_hub_id


class GoneError(HfHubHTTPError):
    """Stands for an answer with an error status."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)


class Hub:
    """Stands for `snapshot_download`."""

    def __init__(self, answer: Path | Exception) -> None:
        self.answer = answer
        self.asked: dict[str, object] = {}

    def __call__(self, **options: object) -> str:
        self.asked = options
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


def test_the_token_comes_from_the_environment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert download("owner/model", hub) == tmp_path
    assert hub.asked["token"] == "secret"
    monkeypatch.delenv("HF_TOKEN")
    download("owner/model", hub)
    assert hub.asked == {**hub.asked, "token": False}  # not one that was stored by a login


def test_a_revision_can_be_named_and_only_safe_files_are_fetched(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    download("owner/model-1.5B@refs/pr/3", hub)
    assert (hub.asked["repo_id"], hub.asked["revision"]) == ("owner/model-1.5B", "refs/pr/3")
    patterns = hub.asked["allow_patterns"]
    assert isinstance(patterns, list)
    assert "*.safetensors" in patterns
    assert not [name for name in patterns if name.endswith((".bin", ".py", "*"))]
    download("owner/model", hub)
    assert hub.asked["revision"] is None


@pytest.mark.parametrize(
    "failure",
    [
        GoneError("404"),
        LocalEntryNotFoundError("no connection"),
        OSError("disk"),
    ],
)
def test_failures_say_what_to_check(failure: Exception) -> None:
    with pytest.raises(ModelError, match="'owner/model' cannot be downloaded") as caught:
        download("owner/model", Hub(failure))
    assert "HF_TOKEN" in caught.value.hint


@pytest.mark.parametrize("text", ["model", "a/b/c", "../model/x", "owner/", "owner/model@", ""])
def test_what_is_no_id_is_told_apart(text: str) -> None:
    assert not is_hub_id(text)
    with pytest.raises(ModelError, match="is no model of the hub"):
        download(text, Hub(Path()))
