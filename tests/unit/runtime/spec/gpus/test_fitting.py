"""Whatever cards, driver and system there are: what is installed together fits together."""

import re

from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.gpus.builds import BUILDS, is_new_enough
from runtime.spec.gpus.decision import decide
from runtime.spec.gpus.drivers import BRANCHES, SOURCES, source_of, unsupported
from runtime.spec.gpus.seen import gpus
from tests.support.gpus import CAPABILITY, DEBIAN, TRIXIE, UBUNTU, host, plan, smi

SYSTEMS = {
    ("debian", "12"): DEBIAN,
    ("debian", "13"): TRIXIE,
    ("ubuntu", "24.04"): UBUNTU,
}


@given(
    cards=st.lists(st.sampled_from(sorted(CAPABILITY)), min_size=1, max_size=4),
    system=st.sampled_from(sorted(SYSTEMS)),
    origin=st.sampled_from(["nvidia", "distribution"]),
    version=st.sampled_from(["auto", *(build.cuda for build in BUILDS)]),
)
def test_what_is_installed_always_fits_together(
    cards: list[str], system: tuple[str, str], origin: str, version: str
) -> None:
    seen = host(*cards, release=SYSTEMS[system])
    found = decide(plan(driver=origin, version=version), seen)
    if found.problem:
        assert "\n  -> " in found.problem
        return
    source = source_of(system, origin)  # type: ignore[arg-type]  # one of the two names
    assert source is not None
    there, _ = gpus(seen)
    build = next(build for build in BUILDS if build.name == found.build)
    branch = BRANCHES[source.branch]
    assert unsupported(source, there) == ()
    assert all(build.supports(gpu) and branch.supports(gpu) for gpu in there)
    assert is_new_enough(branch.version, build.driver)
    assert version in {"auto", build.cuda}
    assert not (build.experimental and version == "auto")
    assert found.setup is not None
    assert found.setup.packages


@given(
    cards=st.lists(st.sampled_from(sorted(CAPABILITY)), min_size=1, max_size=4),
    driver=st.sampled_from(["470.256.02", "525.60.13", "535.1", "560.35.05", "580.65.06", "610.1"]),
)
def test_with_somebody_elses_driver_the_newest_cuda_that_it_runs_is_taken(
    cards: list[str], driver: str
) -> None:
    seen = host(*cards, driver=smi(driver, *cards))
    found = decide(plan(), seen)
    there, _ = gpus(seen)
    fitting = [
        build.name
        for build in BUILDS
        if not build.experimental
        and all(build.supports(gpu) for gpu in there)
        and is_new_enough(driver, build.driver)
    ]
    assert found.setup is None
    assert (found.build if not found.problem else None) == (fitting[-1] if fitting else None)


def test_every_source_names_what_it_installs_and_no_graphics() -> None:
    for source in SOURCES:
        assert source.branch in BRANCHES
        assert source.open_packages or source.closed_packages
        names = (*source.open_packages, *source.closed_packages)
        assert not any("xorg" in name or "settings" in name for name in names)
        if source.repository:
            assert re.fullmatch(r"[0-9A-F]{40}", source.repository.fingerprint)
            assert source.repository.fingerprint.endswith(
                source.repository.key.removesuffix(".pub").upper()
            )
