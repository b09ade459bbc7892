"""What an operator may write of drivers and CUDA, and what is refused before anybody connects."""

from typing import get_args

import pytest

from runtime.spec.errors import SpecError
from runtime.spec.gpus.builds import AUTO, BUILDS
from runtime.spec.gpus.wanted import CudaChoice
from runtime.spec.inventory import fleet_of
from runtime.spec.plan import plans
from tests.support.inventories import four_hosts


def test_an_operator_may_name_every_cuda_that_there_is() -> None:
    assert get_args(CudaChoice) == (AUTO, *(build.cuda for build in BUILDS))


@pytest.mark.parametrize(
    ("cuda", "named"),
    [
        ({"version": 12.6}, "'cuda.version': Input should be 'auto', '12.6'"),
        ({"version": "11.8"}, "(got '11.8')"),
        ({"driver": "nividia"}, "'nvidia', 'distribution' or 'none' (got 'nividia')"),
        ({"verison": "12.6"}, "did you mean 'version'?"),
        ({"toolkit": True, "driver": "none"}, "set fleet.cuda.driver to nvidia"),
    ],
)
def test_a_mistake_of_the_inventory_is_named_before_anybody_connects(
    cuda: dict[str, object], named: str
) -> None:
    hosts = four_hosts()
    for variables in hosts.values():
        variables["fleet"] = {**variables["fleet"], "cuda": cuda}
    with pytest.raises(SpecError) as refused:
        fleet_of(hosts)
    assert named in str(refused.value)


def test_a_host_may_have_another_cuda_than_the_fleet() -> None:
    hosts = four_hosts()
    hosts["gpu-1"]["fleet_host"]["cuda"] = {"version": "12.6"}
    plans_of = plans(fleet_of(hosts), {})
    assert plans_of["gpu-1"].cuda.wanted.version == "12.6"
    assert plans_of["gpu-0"].cuda.wanted.version == AUTO
    hosts["gpu-1"]["fleet_host"]["cuda"] = {"toolkit": True, "driver": "distribution"}
    with pytest.raises(SpecError, match=r"host gpu-1: fleet_host\.cuda\.toolkit is true"):
        fleet_of(hosts)
