"""Calls to Azure's resource manager: with whose credentials, how often, and for how long."""

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.core.polling import LROPoller
from azure.mgmt.network import NetworkManagementClient, models

from cloud.azure.convert import Json
from cloud.azure.errors import CREDENTIALS, code_of, refusal
from cloud.errors import CloudError
from runtime.spec.clouds import AzureCloud

NETWORK_GROUPS: Final = "network_security_groups"
APPLICATION_GROUPS: Final = "application_security_groups"
INTERFACES: Final = "network_interfaces"

_MODELS: Final[dict[str, Callable[[Json], Any]]] = {
    NETWORK_GROUPS: models.NetworkSecurityGroup,
    APPLICATION_GROUPS: models.ApplicationSecurityGroup,
    INTERFACES: models.NetworkInterface,
}
_PUBLIC: Final = "https://management.azure.com"
_CONNECT_SECONDS: Final = 10
_READ_SECONDS: Final = 60
# Somebody else changes the same thing at this moment.
_BUSY: Final = {
    "AnotherOperationInProgress",
    "CanceledAndSupersededDueToAnotherOperation",
    "RetryableError",
}
_CHANGED: Final = 412


@dataclass(frozen=True)
class Patience:
    """How long Azure is waited for.

    Attributes:
        repeats: how often a call is repeated that fails for a reason that passes, at least 0.
        pause: seconds before the first repetition; each later one takes twice as long. What Azure
            itself asks for goes before it.
        poll: seconds between looks at an operation, where Azure names no time.
        longest: seconds that one operation may take.
    """

    repeats: int = 6
    pause: float = 1.0
    poll: float = 5.0
    longest: float = 900.0


class Client:
    """The security groups and network interfaces of one resource group."""

    def __init__(self, cloud: AzureCloud, patience: Patience) -> None:
        """Make a client; asks nobody.

        Raises:
            CloudError: what is said about credentials cannot be read.
        """
        self._cloud = cloud
        self._patience = patience
        endpoint = (cloud.endpoint or _PUBLIC).rstrip("/")
        named: dict[str, Any] = {
            "base_url": endpoint,
            "credential_scopes": [f"{endpoint}/.default"],
            "polling_interval": patience.poll,
            "connection_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "retry_total": patience.repeats,
            "retry_connect": patience.repeats,
            "retry_read": patience.repeats,
            "retry_status": patience.repeats,
            "retry_backoff_factor": patience.pause,
        }
        credential: TokenCredential
        if endpoint.startswith("http://"):
            # Whoever listens would read a token: nobody is asked for one.
            credential = _Nobody()
            named["authentication_policy"] = SansIOHTTPPolicy()
        else:
            credential = _credential()
        self._client = NetworkManagementClient(credential, cloud.subscription, **named)

    def listed(self, kind: str) -> list[Json]:
        """Return everything of a kind, in as many calls as there are pages.

        Raises:
            CloudError: the call failed, however often it was repeated.
        """
        try:
            pages = getattr(self._client, kind).list(self._cloud.resource_group)
            return [each.as_dict() for each in pages]
        except AzureError as error:
            raise refusal(error, f"list {kind}", self._cloud) from error

    def get(self, kind: str, name: str) -> Json | None:
        """Return one thing, or None if there is none of the name.

        Raises:
            CloudError: the call failed, however often it was repeated.
        """
        try:
            found = getattr(self._client, kind).get(self._cloud.resource_group, name)
        except ResourceNotFoundError as error:
            if code_of(error) in {"ResourceNotFound", "NotFound"}:
                return None
            raise refusal(error, f"get {kind} {name}", self._cloud) from error
        except AzureError as error:
            raise refusal(error, f"get {kind} {name}", self._cloud) from error
        whole: Json = found.as_dict()
        return whole

    def update(
        self, kind: str, name: str, change: Callable[[Json | None], Json], known: Json | None = None
    ) -> Json:
        """Make a thing what `change` makes of it, whoever else changes it at the same time.

        Args:
            kind: what it is.
            name: what it is called.
            change: returns what it should be; it gets what is there, or None. What equals that
                is not written.
            known: what is there, if that has just been read.

        Returns:
            What it is now.

        Raises:
            CloudError: it was refused, or others do not leave it alone.
        """
        current = known or self.get(kind, name)
        for turn in range(self._patience.repeats + 1):
            wanted = change(copy.deepcopy(current))
            if wanted == current:
                return wanted
            try:
                return self._put(kind, name, wanted, str(current["etag"]) if current else "")
            except HttpResponseError as error:
                busy = code_of(error) in _BUSY
                passes = busy or error.status_code == _CHANGED
                if not passes or turn == self._patience.repeats:
                    raise refusal(error, f"write {kind} {name}", self._cloud) from error
                self._wait(turn)
            except AzureError as error:
                raise refusal(error, f"write {kind} {name}", self._cloud) from error
            current = self.get(kind, name)
        raise AssertionError("the last turn returns or raises")

    def delete(self, kind: str, name: str) -> None:
        """Remove a thing; one that is gone already is no error.

        Raises:
            CloudError: it was refused.
        """
        for turn in range(self._patience.repeats + 1):
            try:
                begin = getattr(self._client, kind).begin_delete
                self._end(begin(self._cloud.resource_group, name), name)
            except ResourceNotFoundError as error:
                if code_of(error) not in {"ResourceNotFound", "NotFound"}:
                    raise refusal(error, f"delete {kind} {name}", self._cloud) from error
            except AzureError as error:
                if code_of(error) not in _BUSY or turn == self._patience.repeats:
                    raise refusal(error, f"delete {kind} {name}", self._cloud) from error
                self._wait(turn)
                continue
            return

    def _put(self, kind: str, name: str, whole: Json, etag: str) -> Json:
        # A name that is new has no version yet.
        headers = {"If-Match": etag} if etag else {}
        operation = getattr(self._client, kind).begin_create_or_update(
            self._cloud.resource_group,
            name,
            _MODELS[kind](whole).as_dict(exclude_readonly=True),
            headers=headers,
        )
        self._end(operation, name)
        made: Json = operation.result().as_dict()
        return made

    def _end(self, operation: LROPoller[Any], name: str) -> None:
        operation.wait(self._patience.longest)
        if not operation.done():
            raise CloudError(
                f"Azure still works on {name} after {self._patience.longest:.0f} s",
                hint="look at it in the portal, and run the same command again: it continues",
            )

    def _wait(self, turn: int) -> None:
        time.sleep(self._patience.pause * 2**turn)  # Azure tells nobody when the other has ended


def _credential() -> TokenCredential:
    # Takes a second, which plain http need not wait for.
    from azure.identity import DefaultAzureCredential

    # All that it warns of is in the error that it raises, too.
    logging.getLogger("azure.identity").setLevel(logging.ERROR)
    try:
        return DefaultAzureCredential()
    except ValueError as error:
        raise CloudError(
            f"what is said about Azure's credentials cannot be read: {error}", hint=CREDENTIALS
        ) from error


class _Nobody:
    """The credentials for an address that gets none."""

    def get_token(self, *scopes: str, **_named: object) -> AccessToken:
        raise CloudError(f"no token for {', '.join(scopes)} may go over plain http")
