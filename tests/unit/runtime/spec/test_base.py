import pytest
from pydantic import Field, TypeAdapter, ValidationError

from runtime.spec.base import Address, Cidr, Frozen, Ip, Span, words


@pytest.mark.parametrize("good", ["10.0.0.1", "::1", "gpu-a", "node_1.lab.example", "a"])
def test_an_address_is_an_ip_or_a_name(good: str) -> None:
    assert TypeAdapter(Address).validate_python(good) == good


@pytest.mark.parametrize("bad", ["", "10.0.0.256", "1.2.3", "a b", "-a", "a..b", "x" * 254, "a/b"])
def test_anything_else_is_no_address(bad: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Address).validate_python(bad)


def test_an_ip_is_written_in_one_way() -> None:
    assert TypeAdapter(Ip).validate_python("2001:DB8::0") == "2001:db8::"
    with pytest.raises(ValidationError, match="is not an IP address"):
        TypeAdapter(Ip).validate_python("gpu-a")


def test_a_network_is_read_in_its_canonical_form() -> None:
    assert TypeAdapter(Cidr).validate_python("10.0.0.0/8") == "10.0.0.0/8"
    assert TypeAdapter(Cidr).validate_python("10.0.0.1/8") == "10.0.0.0/8"
    with pytest.raises(ValidationError, match="is not a network in CIDR form"):
        TypeAdapter(Cidr).validate_python("10.0.0.1/33")


def test_a_span_is_half_open_and_runs_forward() -> None:
    assert len(Span(start=3, end=5)) == 2
    assert str(Span(start=3, end=5)) == "[3, 5)"
    with pytest.raises(ValidationError, match=r"span \[5, 3\) ends before it starts"):
        Span(start=5, end=3)


class _Inner(Frozen):
    port: int = Field(ge=1)


class _Outer(Frozen):
    name: str
    inner: _Inner


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('{"name": "a", "inner": {"prot": 1}}', "unknown key 'inner.prot'; did you mean 'port'?"),
        ('{"name": "a", "inner": {"port": 1}, "zzzz": 1}', "known keys: inner, name"),
        ('{"inner": {"port": 1}}', "'name' is missing"),
        ('{"name": "a", "inner": {"port": "1"}}', "'inner.port': Input should be a valid integer"),
        ('{"name": "a", "inner": {"port": 0}}', "(got 0)"),
    ],
)
def test_findings_are_told_in_the_operators_words(data: str, said: str) -> None:
    with pytest.raises(ValidationError) as found:
        _Outer.model_validate_json(data)
    message = str(words(found.value, _Outer, "fleet"))
    assert said in message
    assert all(line.startswith("fleet: ") for line in message.splitlines())


def test_records_never_change() -> None:
    with pytest.raises(ValidationError):
        setattr(_Inner(port=1), "port", 2)  # noqa: B010 - the type checker refuses it already
