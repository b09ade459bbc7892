"""Reports: what they come to, and what changed between two."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.checks.doctor.finding import (
    EXIT_CODES,
    Finding,
    Report,
    Verdict,
    compared,
    lines,
    report,
    worst,
)

FINDINGS = st.builds(
    Finding,
    check=st.sampled_from(["disk.room", "clock.offset"]),
    host=st.sampled_from(["a", "b", "c"]),
    about=st.sampled_from(["", "/"]),
    verdict=st.sampled_from(Verdict),
    evidence=st.just("seen"),
    remedy=st.just(""),
)
REPORTS = st.lists(FINDINGS, unique_by=lambda each: each.key).map(
    lambda found: report("lab", 1.0, "now", found)
)


@given(REPORTS)
def test_the_exit_code_is_that_of_the_worst(found: Report) -> None:
    told = report("lab", 1.0, "now", found.findings)
    verdicts = {each.verdict for each in told.findings}
    expected = 2 if Verdict.FAIL in verdicts else 1 if Verdict.WARN in verdicts else 0
    assert EXIT_CODES[told.verdict] == expected
    assert EXIT_CODES[worst(told.findings)] == expected


@given(REPORTS, REPORTS)
def test_changes_lead_from_one_report_to_the_other(before: Report, now: Report) -> None:
    old = {each.key: each.verdict for each in before.findings}
    new = {each.key: each.verdict for each in now.findings}
    told = compared(now, before)
    both = {key[1] for key in old} & {key[1] for key in new}
    for change in told.changes:
        key = (change.check, change.host, change.about)
        assert old.get(key) is change.before
        assert new.get(key) is change.now
        assert change.before is not change.now
        if change.now is None:
            del old[key]
        else:
            old[key] = change.now
    assert {key: each for key, each in old.items() if key[1] in both} == {
        key: each for key, each in new.items() if key[1] in both
    }


def test_nothing_to_compare_with_is_no_change() -> None:
    now = report("lab", 1.0, "now", [])
    assert compared(now, None).compared_with is None


def test_lines_show_what_is_wrong_and_how_to_mend_it() -> None:
    found = [
        Finding(
            check="disk.room",
            host="a",
            about="/",
            verdict=Verdict.FAIL,
            evidence="0 B",
            remedy="rm",
        ),
        Finding(check="os.system", host="a", verdict=Verdict.OK, evidence="fine"),
    ]
    assert lines(report("lab", 1.0, "now", found)) == [
        "FAIL a disk.room /: 0 B",
        "    -> rm",
        "1 ok, 1 fail",
    ]
