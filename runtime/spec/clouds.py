"""The clouds that hosts are in: where their firewall rules are kept."""

from typing import Annotated, Final, Literal

from pydantic import Field

from runtime.spec.base import Frozen

_ENDPOINT: Final = r"^https?://[^\s/]+(/[^\s]*)?$"
_ENDPOINT_MEANING: Final = (
    "another address of the cloud's API, for a private cloud or a test; over plain http no "
    "credentials are sent"
)


class AwsCloud(Frozen):
    """A virtual private cloud of Amazon's."""

    provider: Literal["aws"] = Field(description="which cloud it is")
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$", description="such as us-east-1")
    vpc: str = Field(pattern=r"^vpc-[0-9a-f]{8,17}$", description="the network the hosts are in")
    endpoint: str | None = Field(
        default=None,
        pattern=_ENDPOINT,
        description=f"{_ENDPOINT_MEANING}; AWS_ENDPOINT_URL does the same",
    )


class GcpCloud(Frozen):
    """A network of Google's cloud."""

    provider: Literal["gcp"] = Field(description="which cloud it is")
    project: str = Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$", description="the project's id")
    network: str = Field(
        default="default",
        pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$",
        description="the network the hosts are in",
    )
    endpoint: str | None = Field(default=None, pattern=_ENDPOINT, description=_ENDPOINT_MEANING)


class AzureCloud(Frozen):
    """A resource group of Microsoft's cloud."""

    provider: Literal["azure"] = Field(description="which cloud it is")
    subscription: str = Field(
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description="the subscription's id"
    )
    resource_group: str = Field(
        pattern=r"^[-\w.()]{0,89}[-\w()]$", description="the resource group the hosts are in"
    )
    location: str = Field(pattern=r"^[a-z0-9]+$", description="such as westeurope")
    endpoint: str | None = Field(default=None, pattern=_ENDPOINT, description=_ENDPOINT_MEANING)


Cloud = Annotated[AwsCloud | GcpCloud | AzureCloud, Field(discriminator="provider")]
