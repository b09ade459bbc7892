from types import SimpleNamespace
from typing import cast

import pytest

from runtime.client.progress import Progress, StepTimes
from runtime.client.prompts import Tokenizer
from runtime.client.request import GenerationRequest
from runtime.errors import SessionError
from tests.support.models import byte_tokenizer

FAST = byte_tokenizer()
END = FAST.eos_token_id
TOKENIZER = cast("Tokenizer", SimpleNamespace(fast=FAST, eos=frozenset([END]), pad=0))


def ids(text: str) -> list[int]:
    return list(FAST(text)["input_ids"])


def progress(batch: int = 1, new_tokens: int = 10, **fields: object) -> Progress:
    request = GenerationRequest.model_validate({"prompts": ("x",), **fields})
    return Progress(request, TOKENIZER, batch, new_tokens)


def test_an_end_token_ends_a_sequence_and_is_no_text() -> None:
    found = progress()
    events = [found.take((token,)) for token in [*ids("hi"), END]]
    assert [event.text for event in events] == [("h",), ("i",), ("",)]
    assert found.is_over
    end = found.end(seed=5, trace=[])
    assert end.token_ids == ((*ids("hi"), END),)
    assert (end.text, end.finish_reasons, end.seed) == (("hi",), ("eos",), 5)


def test_the_length_ends_a_sequence() -> None:
    found = progress(new_tokens=2)
    for token in ids("hi"):
        found.take((token,))
    assert found.end(0, []).finish_reasons == ("length",)


def test_a_stop_string_ends_a_sequence_before_itself() -> None:
    found = progress(stop=("lo",))
    for token in ids("hello"):
        found.take((token,))
    end = found.end(0, [])
    assert (end.text, end.finish_reasons) == (("hel",), ("stop",))
    assert end.token_ids == (tuple(ids("hello")),)


def test_sequences_end_one_by_one() -> None:
    found = progress(batch=2)
    h, i = ids("hi")
    found.take((h, END))
    later = found.take((i, h))
    assert later.ids == (i, None)
    assert later.text == ("i", "")
    found.take((END, h))
    assert found.is_over
    assert found.end(0, []).token_ids == ((h, i, END), (END,))


def test_the_end_token_can_be_ignored() -> None:
    found = progress(new_tokens=3, ignore_eos=True)
    for token in (END, END, END):
        found.take((token,))
    assert found.end(0, []).finish_reasons == ("length",)


def test_tokens_for_another_batch_are_refused() -> None:
    with pytest.raises(SessionError, match="2 tokens came for 1 sequences"):
        progress().take((1, 2))


def test_the_time_of_a_step_is_known_after_a_few_without_prompts_and_hiccups() -> None:
    times = StepTimes()
    assert times.add(60.0, (1, 500)) is None
    found = [times.add(seconds, (2, 1)) for seconds in (9.0, *[0.2] * 7, *[0.4] * 8)]
    assert [seconds for seconds in found if seconds is not None] == [0.1, 0.2]
