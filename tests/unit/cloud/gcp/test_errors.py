import re
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.auth import exceptions as auth
from google.cloud import compute_v1

from cloud.gcp.errors import Reason, RefusedError, is_passing, operation_refusal, refusal


def call_error(kind: type[exceptions.GoogleAPICallError], message: str, *reasons: str) -> Any:
    return kind(message, errors=[{"reason": reason} for reason in reasons])


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (
            auth.DefaultCredentialsError("File x was not found."),
            "there are no credentials",
            "GOOGLE_APPLICATION_CREDENTIALS",
        ),
        (auth.RefreshError("expired"), "does not accept", "gcloud auth application-default login"),
        (requests.ConnectionError("refused"), "cannot be reached: refused", "endpoint"),
        (
            call_error(
                exceptions.Forbidden,
                "POST https://x/compute/v1/projects/some-lab/global/firewalls: Required "
                "'compute.firewalls.create' permission for 'projects/some-lab/global/firewalls/a'",
                "forbidden",
            ),
            "could not look: Required 'compute.firewalls.create'",
            "the permission compute.firewalls.create is missing; ask for",
        ),
        (
            call_error(exceptions.Forbidden, "not been used before", "accessNotConfigured"),
            "not been used before",
            "gcloud services enable compute.googleapis.com --project some-lab",
        ),
        (
            call_error(exceptions.Forbidden, "Quota 'FIREWALLS' exceeded.", "quotaExceeded"),
            "Quota 'FIREWALLS' exceeded",
            "raise that quota",
        ),
        (
            call_error(
                exceptions.NotFound, "The resource 'projects/some-lab' was not found", "notFound"
            ),
            "was not found",
            "check the project's id in fleet.clouds: some-lab",
        ),
        (call_error(exceptions.Unauthorized, "no"), "could not look: no", "gcloud auth"),
        (
            exceptions.RetryError("late", call_error(exceptions.ServiceUnavailable, "busy")),
            r"could not look: busy \(tried again and again\)",
            "wait a while",
        ),
    ],
)
def test_refusals_say_what_to_do(error: Exception, message: str, hint: str) -> None:
    found = refusal(error, "look", "some-lab")
    assert re.search(message, str(found))
    assert hint in found.hint


def test_what_may_work_in_a_moment_is_tried_again() -> None:
    again = [
        exceptions.TooManyRequests("slow down"),
        exceptions.InternalServerError("oops"),
        exceptions.ServiceUnavailable("busy"),
        call_error(exceptions.Forbidden, "slow down", "rateLimitExceeded"),
        call_error(exceptions.BadRequest, "not ready", "resourceNotReady"),
        requests.Timeout(),
        requests.ConnectionError(),
        auth.TransportError("lost"),
        RefusedError("later", reason=Reason.PASSING),
    ]
    never = [
        exceptions.Forbidden("no"),
        exceptions.NotFound("no"),
        call_error(exceptions.Forbidden, "Quota", "quotaExceeded"),
        auth.RefreshError("expired"),
        RefusedError("no"),
        ValueError(),
    ]
    assert all(is_passing(error) for error in again)
    assert not any(is_passing(error) for error in never)


def test_an_operation_that_ends_badly_is_a_refusal() -> None:
    operation = compute_v1.Operation()
    assert operation_refusal(operation, "look", "some-lab") is None
    operation.error.errors.append(compute_v1.Errors(code="QUOTA_EXCEEDED", message="Quota"))
    found = operation_refusal(operation, "look", "some-lab")
    assert found is not None
    assert (found.reason, found.hint[:16]) == (Reason.OTHER, "raise that quota")
    operation.error.errors[0].code = "RESOURCE_ALREADY_EXISTS"
    found = operation_refusal(operation, "look", "some-lab")
    assert found is not None
    assert found.reason is Reason.EXISTS
