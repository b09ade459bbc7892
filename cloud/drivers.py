"""The class that talks to each cloud, imported only when a fleet is in that cloud."""

from collections.abc import Iterator
from contextlib import contextmanager

from cloud.errors import CloudError
from cloud.instance_operation import Instances
from cloud.provider import Provider
from runtime.spec.clouds import AwsCloud, AzureCloud, Cloud, GcpCloud


def driver(cloud: Cloud, fleet: str, owner: str) -> Provider:
    """Return what talks to a cloud.

    Args:
        cloud: where it is.
        fleet: the fleet's name.
        owner: the mark that what is made for the fleet carries.

    Raises:
        CloudError: its libraries are not installed, or there are no credentials.
    """
    with _installed(cloud):
        if isinstance(cloud, AwsCloud):
            from cloud.aws.driver import Aws

            return Aws(cloud, fleet, owner)
        if isinstance(cloud, AzureCloud):
            from cloud.azure.driver import Azure

            return Azure(cloud, fleet, owner)
        from cloud.gcp.driver import Gcp

        return Gcp(cloud, fleet, owner)


def instances_driver(cloud: Cloud, fleet: str, owner: str) -> Instances:
    """Return what makes instances in a cloud.

    Args:
        cloud: where it is.
        fleet: the fleet's name.
        owner: the mark that what is made for the fleet carries.

    Raises:
        CloudError: its libraries are not installed, there are no credentials, or instances are not
            made there yet.
    """
    with _installed(cloud):
        if isinstance(cloud, AwsCloud):
            from cloud.aws.instances import AwsInstances

            return AwsInstances(cloud, fleet, owner)
        if isinstance(cloud, GcpCloud):
            from cloud.gcp.instances import GcpInstances

            return GcpInstances(cloud, fleet, owner)
    raise CloudError(
        "instances in Azure are not made and not looked for yet",
        hint="make them with another tool, and write their addresses into the inventory",
    )


@contextmanager
def _installed(cloud: Cloud) -> Iterator[None]:
    """Say what to do where a cloud's libraries are missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CloudError(
            f"the libraries of {cloud.provider} are not installed: {error}",
            hint="./fleet cloud installs them into .venv",
        ) from error
