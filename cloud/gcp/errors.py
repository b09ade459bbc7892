"""What Google's cloud refuses, in the operator's words."""

import re
from enum import Enum
from typing import Final

import requests
from google.api_core import exceptions
from google.auth import exceptions as auth
from google.cloud import compute_v1
from google.protobuf import json_format  # type: ignore[import-untyped]  # it ships no types

from cloud.errors import CloudError


class Reason(Enum):
    """Why a call was refused, as far as that changes what to do next."""

    EXISTS = "there is one of that name already"
    MISSING = "there is none of that name"
    STALE = "somebody else has changed it meanwhile"
    PASSING = "it may work in a moment"
    OTHER = "it will not work before somebody mends the cause"


class RefusedError(CloudError):
    """A call that the cloud has refused.

    Attributes:
        reason: why.
    """

    def __init__(self, message: str, hint: str = "", reason: Reason = Reason.OTHER) -> None:
        super().__init__(message, hint)
        self.reason = reason


ERRORS: Final = (
    exceptions.GoogleAPIError,
    auth.GoogleAuthError,
    requests.RequestException,
    json_format.ParseError,
)
"""What the client library raises."""

_PASSING: Final = frozenset(
    {
        "rateLimitExceeded",
        "userRateLimitExceeded",
        "resourceNotReady",
        "RATE_LIMIT_EXCEEDED",
        "RESOURCE_NOT_READY",
        "RESOURCE_OPERATION_RATE_EXCEEDED",
        "INTERNAL_ERROR",
        "SERVICE_UNAVAILABLE",
    }
)
_REASONS: Final = {
    "alreadyExists": Reason.EXISTS,
    "RESOURCE_ALREADY_EXISTS": Reason.EXISTS,
    "notFound": Reason.MISSING,
    "RESOURCE_NOT_FOUND": Reason.MISSING,
    "conditionNotMet": Reason.STALE,
    "CONDITION_NOT_MET": Reason.STALE,
} | dict.fromkeys(_PASSING, Reason.PASSING)
_CODES: Final = {409: Reason.EXISTS, 404: Reason.MISSING, 412: Reason.STALE}
_LOGIN: Final = (
    "name a service account's key in GOOGLE_APPLICATION_CREDENTIALS, or run "
    "`gcloud auth application-default login`"
)
_ROLES: Final = (
    "ask for roles/compute.securityAdmin (firewalls) and roles/compute.instanceAdmin.v1 "
    "(instances' network tags)"
)
_QUOTA: Final = (
    "raise that quota of the project, or remove what it no longer needs, and run the same command "
    "again: it continues"
)


_EXHAUSTED: Final = frozenset(
    {"ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"}
)
_CAPACITY: Final = (
    "the zone has no machine of this type free now: wait, or name another zone or type in "
    "instance, and run the same command again: it continues"
)


def is_passing(error: BaseException) -> bool:
    """Return whether a call is worth repeating as it is."""
    if isinstance(error, RefusedError):
        return error.reason is Reason.PASSING
    if isinstance(error, exceptions.GoogleAPICallError):
        return error.code in {429, 500, 502, 503, 504} or bool(_named(error) & _PASSING)
    return isinstance(
        error,
        auth.TransportError
        | requests.ConnectionError
        | requests.Timeout
        | requests.exceptions.ChunkedEncodingError,
    )


def refusal(error: BaseException, doing: str, project: str) -> RefusedError:
    """Return what the client library has raised, in the operator's words.

    Args:
        error: one of `ERRORS`.
        doing: what was tried, such as "read the firewalls".
        project: in which project.
    """
    if isinstance(error, exceptions.RetryError) and error.cause is not None:
        again = refusal(error.cause, doing, project)
        return RefusedError(
            f"{Exception.__str__(again)} (tried again and again)",
            again.hint or "wait a while and run the same command again: it continues",
        )
    if isinstance(error, exceptions.GoogleAPICallError):
        return _of_call(error, doing, project)
    if isinstance(error, auth.DefaultCredentialsError):
        return RefusedError(f"there are no credentials for Google's cloud: {error}", _LOGIN)
    if isinstance(error, auth.RefreshError):
        return RefusedError(
            f"Google's cloud does not accept the credentials any more: {error}", _LOGIN
        )
    if isinstance(error, json_format.ParseError):
        return RefusedError(
            f"could not {doing}: the answer is none of Google's compute API: {error}",
            "check the endpoint of this cloud in fleet.clouds",
        )
    return RefusedError(
        f"could not {doing}: Google's cloud cannot be reached: {error}",
        "check the way to the internet, and the endpoint of this cloud in fleet.clouds",
    )


def operation_refusal(
    operation: compute_v1.Operation, doing: str, project: str
) -> RefusedError | None:
    """Return what an operation that has ended says is wrong, or None."""
    errors = list(operation.error.errors)
    if not errors:
        return None
    message = "; ".join(error.message for error in errors)
    names = {error.code for error in errors}
    reason = _reason(names, operation.http_error_status_code)
    return RefusedError(
        f"could not {doing}: {message}", _hint(names, message, project) or "", reason=reason
    )


def _of_call(error: exceptions.GoogleAPICallError, doing: str, project: str) -> RefusedError:
    # The library puts the verb and the address in front.
    message = re.sub(r"^(GET|POST|PUT|PATCH|DELETE) \S+: ", "", str(error.message))
    names = _named(error)
    hint = _hint(names, message, project)
    if hint is None and error.code == 401:
        hint = _LOGIN
    if hint is None and error.code == 403:
        found = re.search(r"compute\.\w+\.\w+", message)
        permission = f"the permission {found[0]} is missing; " if found else ""
        hint = f"{permission}{_ROLES}"
    if hint is None and re.search(r"'projects/[^/']+' was not found", message):
        hint = f"check the project's id in fleet.clouds: {project}"
    return RefusedError(f"could not {doing}: {message}", hint or "", _reason(names, error.code))


def _hint(names: set[str], message: str, project: str) -> str | None:
    if names & {"accessNotConfigured", "SERVICE_DISABLED"}:
        return f"run `gcloud services enable compute.googleapis.com --project {project}`"
    if names & {"quotaExceeded", "QUOTA_EXCEEDED"} or message.startswith("Quota"):
        return _QUOTA
    if names & _EXHAUSTED:
        return _CAPACITY
    return None


def _named(error: exceptions.GoogleAPICallError) -> set[str]:
    """Return the words that name an error, which an answer has in up to two places."""
    found = {each["reason"] for each in error.errors if isinstance(each, dict) and "reason" in each}
    return found | ({error.reason} if error.reason else set())


def _reason(names: set[str], code: int | None) -> Reason:
    for name in sorted(names & _REASONS.keys()):
        return _REASONS[name]
    return _CODES.get(code or 0, Reason.OTHER)
