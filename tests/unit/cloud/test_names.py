import re

from hypothesis import given
from hypothesis import strategies as st

from cloud.names import ALL, group_name, label_of, purpose_of, rule_mark

_groups = st.one_of(st.just(ALL), st.text("abcXYZ019._-", min_size=1, max_size=80))


@given(_groups, _groups, st.integers(50, 63))
def test_names_are_legal_short_and_different(one: str, other: str, longest: int) -> None:
    fleet = "a" * 30
    name = group_name(fleet, one, longest)
    assert len(name) <= longest
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert (name == group_name(fleet, other, longest)) == (one == other)


def test_plain_names_stay_what_they_are() -> None:
    assert group_name("lab", "gpu-0") == "stagefleet-lab-gpu-0"
    assert group_name("lab", ALL) == "stagefleet-lab-all"
    assert group_name("lab", "all") != group_name("lab", ALL)


@given(_groups, _groups)
def test_labels_are_legal_and_different(one: str, other: str) -> None:
    assert re.fullmatch(r"[a-z0-9_-]{1,63}", label_of(one))
    assert (label_of(one) == label_of(other)) == (one == other)
    # What is a label already stays what it is.
    assert label_of(label_of(one)) == label_of(one)


def test_a_mark_tells_ours_from_others() -> None:
    assert purpose_of(rule_mark("rpc of stage 1")) == "rpc of stage 1"
    assert purpose_of("ssh for everybody") is None
