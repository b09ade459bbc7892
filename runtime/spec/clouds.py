"""The clouds that hosts are in: where their rules are kept, and their instances made."""

from typing import Annotated, Final, Literal

from pydantic import Field

from runtime.spec.base import Frozen

_ENDPOINT: Final = r"^https?://[^\s/]+(/[^\s]*)?$"
_ENDPOINT_MEANING: Final = (
    "another address of the cloud's API, for a private cloud or a test; over plain http no "
    "credentials are sent"
)


_INSTANCE_MEANING: Final = (
    "what the instances of hosts with fleet_host.instance have in common; a host's own keys win"
)


class Instance(Frozen):
    """An instance that is made for a host; what is not said here, the cloud says for all."""

    type: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9]*[.-][a-z0-9.-]*[a-z0-9]$",
        description="the cloud's name of the machine, such as g5.xlarge or g2-standard-4",
    )
    image: str | None = Field(
        default=None,
        pattern=r"^(ami-[0-9a-f]{8,17}|projects/[^/\s]+/global/images/(family/)?[a-z0-9-]+)$",
        description="what it starts from: ami-…, or projects/…/global/images/[family/]…",
    )
    disk: int | None = Field(
        default=None, ge=8, le=16384, description="size of its disk in GiB; it goes with it"
    )
    key: str | None = Field(
        default=None,
        pattern=r"^\S[^\n]*\S$",
        description="who may log in: a key pair's name (AWS), or user:ssh-ed25519 AAAA… (Google)",
    )
    subnet: str | None = Field(
        default=None,
        pattern=r"^(subnet-[0-9a-f]{8,17}|[a-z]([-a-z0-9]{0,61}[a-z0-9])?)$",
        description="subnet-… (AWS), or the subnetwork's name (Google; default: the network's own)",
    )
    zone: str | None = Field(
        default=None,
        pattern=r"^[a-z]+-[a-z]+[0-9]+-[a-z]$",
        description="where it is (Google); with AWS, the subnet says it",
    )
    placement: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$",
        description="a placement group (AWS) or policy (Google) that is there already, such as one "
        "that keeps instances close together",
    )
    public_address: bool | None = Field(
        default=None, description="it gets an address that the outside reaches; default: true"
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
    instance: Instance = Field(default=Instance(), description=_INSTANCE_MEANING)


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
    instance: Instance = Field(default=Instance(), description=_INSTANCE_MEANING)


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
