"""The class that talks to each cloud, imported only when a fleet is in that cloud."""

from cloud.errors import CloudError
from cloud.provider import Provider
from runtime.spec.clouds import AwsCloud, AzureCloud, Cloud


def driver(cloud: Cloud, fleet: str, owner: str) -> Provider:
    """Return what talks to a cloud.

    Args:
        cloud: where it is.
        fleet: the fleet's name.
        owner: the mark that what is made for the fleet carries.

    Raises:
        CloudError: its libraries are not installed, or there are no credentials.
    """
    try:
        if isinstance(cloud, AwsCloud):
            from cloud.aws import Aws

            return Aws(cloud, fleet, owner)
        if isinstance(cloud, AzureCloud):
            from cloud.azure import Azure

            return Azure(cloud, fleet, owner)
        from cloud.gcp import Gcp

        return Gcp(cloud, fleet, owner)
    except ModuleNotFoundError as error:
        raise CloudError(
            f"the libraries of {cloud.provider} are not installed: {error}",
            hint="./fleet cloud installs them into .venv",
        ) from error
