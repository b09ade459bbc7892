import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import VersionError, WireError
from runtime.wire import frame
from runtime.wire.frame import HEADER_BYTES, MAX_META_BYTES, PROTOCOL, Lengths, header, lengths


@given(st.integers(0, MAX_META_BYTES), st.integers(0, 2**32 - 1))
def test_a_header_says_what_follows(meta: int, body: int) -> None:
    data = header(meta, body)
    assert len(data) == HEADER_BYTES
    assert lengths(data, max_body_bytes=2**32) == Lengths(meta, body)


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_any_other_bytes_are_refused_or_bounded(data: bytes) -> None:
    try:
        found = lengths(data, max_body_bytes=1000)
    except WireError:
        return
    assert found.meta <= MAX_META_BYTES
    assert found.body <= 1000


@pytest.mark.parametrize(
    ("version", "older"), [(PROTOCOL + 1, "the server is older"), (PROTOCOL - 1, "the peer is")]
)
def test_another_version_is_refused_with_who_is_older(
    version: int, older: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(frame, "PROTOCOL", version)
        data = header(1, 0)
    with pytest.raises(VersionError, match=older):
        lengths(data, max_body_bytes=0)


def test_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match="at most 10 are allowed here"):
        lengths(header(5, 11), max_body_bytes=10)
    with pytest.raises(WireError, match="metadata"):
        lengths(header(MAX_META_BYTES + 1, 0), max_body_bytes=10)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_the_parts_of_a_frame_are_header_meta_and_body(meta: bytes, body: bytes) -> None:
    data = b"".join(bytes(part) for part in frame.frame(meta, body))
    assert lengths(data[:HEADER_BYTES], max_body_bytes=100) == Lengths(len(meta), len(body))
    assert data[HEADER_BYTES:] == meta + body
