"""What Azure and its client refuse, in the operator's words."""

import re
from typing import Final

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from cloud.errors import CloudError
from runtime.spec.clouds import AzureCloud

_AGAIN: Final = "run the same command again: it continues"
CREDENTIALS: Final = (
    "sign in with `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
)
_PROVIDER: Final = "Microsoft.Network"
_MOST_WORDS: Final = 600

# The first pattern that a code matches decides; the message is Azure's own beside it.
_WORDS: Final = (
    (
        "SubscriptionNotFound|InvalidSubscriptionId|SubscriptionNotRegistered",
        "there is no subscription {subscription}, or these credentials do not see it",
        "see `az account list`, and correct subscription in fleet.clouds",
    ),
    (
        "ResourceGroupNotFound",
        "there is no resource group {resource_group} in the subscription {subscription}",
        "correct resource_group in fleet.clouds, or make it: az group create -n {resource_group} "
        "-l {location}",
    ),
    (
        "ResourceGroupBeingDeleted",
        "the resource group {resource_group} is being deleted",
        "correct resource_group in fleet.clouds",
    ),
    (
        "Location|NoRegisteredProviderFound",
        "Azure refuses the location {location}",
        "correct location in fleet.clouds: it is where the network interfaces are; see "
        "`az account list-locations`",
    ),
    (
        "MissingSubscriptionRegistration",
        "the subscription {subscription} does not use " + _PROVIDER + " yet",
        "az provider register --namespace " + _PROVIDER,
    ),
    (
        "DisallowedByPolicy",
        "a policy of the subscription forbids it",
        "show this to whoever looks after the subscription's policies",
    ),
    (
        "ScopeLocked|ReadOnlyDisabledSubscription",
        "the resource group or the subscription is locked",
        "see `az lock list -g {resource_group}`; " + _AGAIN + " once the lock is off",
    ),
    (
        "InUse|CannotBeDeleted",
        "something else still uses it",
        "take what the message names off it in the portal; then " + _AGAIN,
    ),
    (
        "Quota|Limit|TooMany|MaxCount|Exceed",
        "it would be more than Azure allows",
        "ask for more in the portal (Subscriptions, Usage + quotas, Networking); then " + _AGAIN,
    ),
    (
        "InvalidResourceReference|ReferencedResourceNotProvisioned|NotFound",
        "something it refers to is gone",
        "somebody else may be changing it; " + _AGAIN,
    ),
    (
        "SameVnet|SameVirtualNetwork|InSameVNet",
        "a fleet's hosts in one resource group have to share a virtual network",
        "describe those of another virtual network as another cloud, in another resource group",
    ),
)


def refusal(error: AzureError, action: str, cloud: AzureCloud) -> CloudError:
    """Return what an operator reads of an error.

    Args:
        error: what the client has raised.
        action: what was being done, such as "PUT networkSecurityGroups stagefleet-lab-gpu-0".
        cloud: where.
    """
    if isinstance(error, HttpResponseError) and error.status_code:
        return _answered(error, action, cloud)
    if isinstance(error, ClientAuthenticationError):
        return CloudError(f"Azure does not know who asks: {_said(error)}", CREDENTIALS)
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        where = cloud.endpoint or "Azure"
        return CloudError(
            f"{where} cannot be reached for {action}: {_said(error)}",
            f"look at this machine's network, and at HTTPS_PROXY; {_AGAIN}",
        )
    return CloudError(f"{action} failed: {_said(error)}", _AGAIN)


def code_of(error: AzureError) -> str:
    """Return Azure's code of an error, or "" if it has none."""
    return str(getattr(getattr(error, "error", None), "code", "") or "")


def _answered(error: HttpResponseError, action: str, cloud: AzureCloud) -> CloudError:
    code = code_of(error)
    said = _said(error)
    where = cloud.model_dump()
    if error.status_code == 403 and "Authoriz" in code:
        needed = re.search(r"action '([^']+)'", said)
        permission = needed[1] if needed else f"{_PROVIDER}/*"
        return CloudError(
            f"these credentials may not do {action}: the permission {permission} is missing",
            f"give them the role Network Contributor on the resource group {cloud.resource_group}",
        )
    if error.status_code == 401 or isinstance(error, ClientAuthenticationError):
        return CloudError(f"Azure does not accept these credentials: {said}", CREDENTIALS)
    if error.status_code == 429 or (error.status_code or 0) >= 500:
        return CloudError(
            f"Azure answers '{code or error.status_code}' for {action}, however often it is asked",
            f"wait a minute and {_AGAIN}",
        )
    for pattern, words, hint in _WORDS:
        if re.search(pattern, code):
            return CloudError(
                f"{action}: {words.format(**where)} ({code}: {said})", hint.format(**where)
            )
    return CloudError(f"Azure refuses {action} ({code or error.status_code}): {said}")


def _said(error: AzureError) -> str:
    """Return Azure's own words, on one line."""
    found = getattr(getattr(error, "error", None), "message", None) or error.message
    return " ".join(str(found).split())[:_MOST_WORDS]
