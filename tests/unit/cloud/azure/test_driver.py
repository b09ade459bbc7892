from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceRequestError
from azure.identity import CredentialUnavailableError

from cloud.azure.client import Client, Patience
from cloud.azure.convert import (
    Json,
)
from cloud.azure.driver import Azure
from cloud.azure.errors import refusal
from cloud.azure.fold import Names
from cloud.azure.state import state, survey, tags
from cloud.errors import CloudError
from cloud.names import ALL
from runtime.spec.clouds import AzureCloud
from tests.support.clouds import CLOUDS, OWNER
from tests.support.loopback import loopback_only

__all__ = ["loopback_only"]

NAMES = Names("/subscriptions/s/resourceGroups/g", "lab")
CLOUD = AzureCloud.model_validate(CLOUDS["azure"])


def thing(name: str, marks: dict[str, str], **properties: Any) -> Json:
    return {"id": f"/x/{name}", "name": name, "tags": marks, "properties": properties}


def test_names_and_tags_tell_whose_a_group_is() -> None:
    ours, theirs = tags("lab", OWNER, "gpu-0"), tags("lab", "ffff", "gpu-1")
    found = survey(
        NAMES,
        OWNER,
        [
            thing("stagefleet-lab-gpu-0", {key.upper(): value for key, value in ours.items()}),
            thing("stagefleet-lab-gpu-1", theirs),
            thing("stagefleet-lab-gpu-2", {}),
            thing("stagefleet-lab-2-gpu-0", tags("lab-2", OWNER, "gpu-0")),
            thing("copied-tags", ours),
            thing("unrelated", {}),
        ],
        [
            thing("stagefleet-lab-all", {"stagefleet-fleet": "lab"}),
            thing("stagefleet-lab-gpu-0", tags("lab", "", "gpu-0")),
            thing("stagefleet-lab-gpu-1", tags("lab", OWNER, "gpu-1")),
        ],
        [],
    )
    owners = {name: group.owner for name, group in state(found, OWNER).groups.items()}
    assert owners == {"gpu-0": "", "gpu-1": "ffff", "gpu-2": "", ALL: ""}


def test_two_interfaces_of_one_host_are_refused() -> None:
    marks = {"stagefleet-fleet": "lab", "stagefleet-host": "gpu-0"}
    with pytest.raises(CloudError, match="a and b both have the tag stagefleet-host=gpu-0"):
        survey(NAMES, OWNER, [], [], [thing("a", marks), thing("b", marks)])


class Answer:
    """What an error of the client's is made of."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status_code = status
        self.reason = "it says so"
        self.headers: dict[str, str] = {}
        self._body = {"error": {"code": code, "message": message}}

    def text(self, *_: object) -> str:
        import json

        return json.dumps(self._body)


@pytest.mark.parametrize(
    ("status", "code", "message", "words", "hint"),
    [
        (401, "InvalidAuthenticationToken", "expired", "does not accept these", "az login"),
        (
            403,
            "AuthorizationFailed",
            "The client does not have authorization to perform action "
            "'Microsoft.Network/networkSecurityGroups/write' over scope '/x'",
            "permission Microsoft.Network/networkSecurityGroups/write is missing",
            "Network Contributor on the resource group gpus",
        ),
        (404, "SubscriptionNotFound", "no", "no subscription 00000000-", "fleet.clouds"),
        (404, "ResourceGroupNotFound", "no", "no resource group gpus", "az group create -n gpus"),
        (400, "LocationNotAvailableForResourceType", "no", "the location westeurope", "location"),
        (409, "MissingSubscriptionRegistration", "no", "does not use", "az provider register"),
        (403, "RequestDisallowedByPolicy", "no", "a policy", "policies"),
        (409, "ScopeLocked", "no", "is locked", "az lock list -g gpus"),
        (400, "InUseNetworkSecurityGroupCannotBeDeleted", "by x", "still uses it", "portal"),
        (400, "NetworkSecurityGroupCountLimitReached", "no", "more than Azure", "it continues"),
        (400, "InvalidResourceReference", "no", "refers to is gone", "it continues"),
        (429, "TooManyRequests", "no", "however often", "it continues"),
        (503, "ServiceUnavailable", "no", "however often it is asked", "it continues"),
        (400, "SomethingNew", "odd", r"Azure refuses do it \(SomethingNew\): odd", ""),
    ],
)
def test_refusals_are_said_in_the_operators_words(
    status: int, code: str, message: str, words: str, hint: str
) -> None:
    error = HttpResponseError(response=Answer(status, code, message))  # type: ignore[arg-type]  # as much of an answer as the error reads
    found = refusal(error, "do it", CLOUD)
    with pytest.raises(CloudError, match=words):
        raise found
    assert hint in found.hint


@pytest.mark.parametrize(
    "error",
    [ClientAuthenticationError("bad secret"), CredentialUnavailableError("nothing is set")],
)
def test_missing_credentials_say_which_to_set(error: ClientAuthenticationError) -> None:
    found = refusal(error, "list", CLOUD)
    assert "does not know who asks" in str(found)
    assert "AZURE_CLIENT_SECRET" in found.hint
    assert "az login" in found.hint


def test_a_cloud_that_is_not_reached_is_named() -> None:
    found = refusal(ServiceRequestError("no route"), "list", CLOUD)
    assert "Azure cannot be reached for list: no route" in str(found)


def test_credentials_are_looked_for_only_where_they_are_safe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    class Chain:
        def get_token(self, *scopes: str, **_: object) -> None:
            asked.extend(scopes)
            raise CredentialUnavailableError("nothing is set")

    monkeypatch.setattr("azure.identity.DefaultAzureCredential", Chain)
    private = CLOUD.model_copy(update={"endpoint": "https://127.0.0.1:9/"})
    patience = Patience(repeats=0, pause=0)
    with pytest.raises(CloudError, match="does not know who asks: nothing is set"):
        Azure(private, "lab", OWNER, patience).read()
    assert asked == ["https://127.0.0.1:9/.default"]
    plain = CLOUD.model_copy(update={"endpoint": "http://127.0.0.1:9"})
    with pytest.raises(CloudError, match="cannot be reached"):
        Client(plain, patience).listed("network_security_groups")
    assert len(asked) == 1

    def unreadable() -> None:
        raise ValueError("no certificate")

    monkeypatch.setattr("azure.identity.DefaultAzureCredential", unreadable)
    with pytest.raises(CloudError, match="about Azure's credentials cannot be read: no cert"):
        Client(private, patience)
