import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.client.text import TextStream
from tests.support.models import byte_tokenizer

TOKENIZER = byte_tokenizer()


def pieces(text: str, *stops: str) -> tuple[list[str], TextStream]:
    stream = TextStream(TOKENIZER, stops)
    found = []
    for token in TOKENIZER(text)["input_ids"]:
        found.append(stream.push(token))
        if stream.stopped:
            break
    found.append(stream.finish())
    return found, stream


@given(st.text(max_size=40))
def test_the_pieces_are_the_text(text: str) -> None:
    found, stream = pieces(text)
    assert "".join(found) == text == stream.text


@given(st.text(min_size=1, max_size=20))
def test_no_piece_holds_half_a_character(text: str) -> None:
    found, _ = pieces(text)
    assert all("�" not in piece for piece in found) or "�" in text


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_the_text_ends_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    found, stream = pieces(text, *stops)
    places = [text.find(stop) for stop in stops if stop in text]
    # The earliest to be complete ends the generation, and with it the text.
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    if places:
        seen = text[: min(ends)]
        expected = seen[: min(seen.find(stop) for stop in stops if stop in seen)]
        assert stream.stopped
    else:
        expected = text
        assert not stream.stopped
    assert "".join(found) == expected == stream.text


def test_what_might_become_a_stop_string_is_held_back() -> None:
    stream = TextStream(TOKENIZER, ["stop"])
    given_out = [stream.push(token) for token in TOKENIZER("a sto")["input_ids"]]
    assert "".join(given_out) == "a "
    assert stream.push(ord("r") - ord("a") + TOKENIZER("a")["input_ids"][0]) == "stor"


@pytest.mark.parametrize("special", TOKENIZER.all_special_ids)
def test_special_tokens_are_no_text(special: int) -> None:
    stream = TextStream(TOKENIZER, [])
    assert stream.push(special) + stream.finish() == ""
