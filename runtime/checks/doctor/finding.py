"""What the doctor says: findings, the report they make, and what changed since the last one."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from pydantic import Field

from runtime.spec.base import Frozen


class Verdict(StrEnum):
    """What a finding means, the worst last."""

    OK = "ok"
    SKIPPED = "skipped"
    WARN = "warn"
    FAIL = "fail"


_ORDER: Final = list(Verdict)
EXIT_CODES: Final = {Verdict.OK: 0, Verdict.SKIPPED: 0, Verdict.WARN: 1, Verdict.FAIL: 2}


class Finding(Frozen):
    """What one check has found of one thing of one host."""

    check: str = Field(description="the check's id")
    host: str = Field(description="the host that it is about")
    about: str = Field(default="", description="which of several: a directory, a port, a peer")
    verdict: Verdict
    evidence: str = Field(description="what was seen; of a skipped check, why it was")
    remedy: str = Field(default="", description="what to do about it")

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is about, whatever was found."""
        return (self.check, self.host, self.about)


class Change(Frozen):
    """A finding that is not what it was."""

    check: str
    host: str
    about: str
    before: Verdict | None = Field(description="null: there was none")
    now: Verdict | None = Field(description="null: there is none")


class Report(Frozen):
    """Everything one run has found."""

    fleet: str
    at: float = Field(description="when, in seconds since 1970, by the controller's clock")
    moment: str = Field(description="before: ahead of a deployment; now: on demand")
    verdict: Verdict
    findings: tuple[Finding, ...]
    compared_with: float | None = Field(
        default=None,
        description="when the last run of that kind was, that changes are counted from",
    )
    changes: tuple[Change, ...] = ()


def report(fleet: str, at: float, moment: str, findings: Iterable[Finding]) -> Report:
    """Return the report that findings make, the worst ones first."""
    found = sorted(findings, key=lambda each: (-_ORDER.index(each.verdict), each.key))
    return Report(fleet=fleet, at=at, moment=moment, verdict=worst(found), findings=tuple(found))


def worst(findings: Iterable[Finding]) -> Verdict:
    """Return the worst verdict; that something was skipped is no verdict on the whole."""
    found = (each.verdict for each in findings if each.verdict is not Verdict.SKIPPED)
    return max(found, key=_ORDER.index, default=Verdict.OK)


def compared(now: Report, before: Report | None) -> Report:
    """Return a report with what changed since an earlier one, by what the findings are about.

    A host that only one of them has was not asked both times: what is known of it has not changed.
    """
    if before is None:
        return now
    old = {each.key: each.verdict for each in before.findings}
    new = {each.key: each.verdict for each in now.findings}
    hosts = {key[1] for key in old} & {key[1] for key in new}
    changes = (
        Change(check=key[0], host=key[1], about=key[2], before=old.get(key), now=new.get(key))
        for key in sorted(old.keys() | new.keys())
        if key[1] in hosts and old.get(key) is not new.get(key)
    )
    return now.model_copy(update={"compared_with": before.at, "changes": tuple(changes)})


def lines(told: Report, quiet: bool = True) -> list[str]:
    """Return a report as text: what is wrong with its remedies, what changed, and the counts.

    Args:
        told: the report.
        quiet: leave out what is as it should be.
    """
    found = []
    for each in told.findings:
        if quiet and each.verdict in (Verdict.OK, Verdict.SKIPPED):
            continue
        about = f" {each.about}" if each.about else ""
        found.append(f"{each.verdict.upper()} {each.host} {each.check}{about}: {each.evidence}")
        if each.remedy:
            found.append(f"    -> {each.remedy}")
    for change in told.changes:
        about = f" {change.about}" if change.about else ""
        found.append(
            f"changed: {change.host} {change.check}{about}: "
            f"{change.before or 'not there'} -> {change.now or 'not there'}"
        )
    counts = ", ".join(
        f"{count} {verdict}"
        for verdict in Verdict
        if (count := sum(each.verdict is verdict for each in told.findings))
    )
    return [*found, counts or "nothing was asked"]
