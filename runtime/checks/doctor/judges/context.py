"""What a judge is given, and how it says what it has found."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.checks.doctor.asked import Moment
from runtime.checks.doctor.catalogue import Check
from runtime.checks.doctor.finding import Finding, Verdict
from runtime.checks.doctor.seen import Seen
from runtime.spec.fleet import Fleet
from runtime.spec.plan import HostPlan

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_THOUSAND = 1024


@dataclass(frozen=True)
class Context:
    """One host and what is known around it.

    Attributes:
        everybody: what every host that could be asked has said.
    """

    fleet: Fleet
    plan: HostPlan
    seen: Seen
    moment: Moment
    everybody: Mapping[str, Seen]

    @property
    def host(self) -> str:
        """The host's name."""
        return self.plan.host

    @property
    def is_installed(self) -> bool:
        """Whether a service of the plan is on the host."""
        return bool(self.seen.services)

    def ok(self, check: Check, evidence: str, about: str = "") -> Finding:
        """Return that it is as it should be."""
        return self._finding(check, Verdict.OK, evidence, "", about)

    def skipped(self, check: Check, why: str, about: str = "") -> Finding:
        """Return that it was not looked at, and why."""
        return self._finding(check, Verdict.SKIPPED, why, "", about)

    def warn(self, check: Check, evidence: str, remedy: str, about: str = "") -> Finding:
        """Return that it should be better."""
        return self._finding(check, Verdict.WARN, evidence, remedy, about)

    def fail(self, check: Check, evidence: str, remedy: str, about: str = "") -> Finding:
        """Return that the fleet cannot run so."""
        return self._finding(check, Verdict.FAIL, evidence, remedy, about)

    def _finding(
        self, check: Check, verdict: Verdict, evidence: str, remedy: str, about: str
    ) -> Finding:
        return Finding(
            check=check.id,
            host=self.host,
            about=about,
            verdict=verdict,
            evidence=evidence,
            remedy=remedy,
        )


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in _UNITS:
        if count < _THOUSAND or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") else f"{count:.1f} {unit}"
        count /= _THOUSAND
    raise AssertionError(count)
