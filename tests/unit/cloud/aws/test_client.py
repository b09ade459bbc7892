"""Whose credentials EC2 is asked with, how often, and what an operator reads when it refuses."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore import exceptions as boto
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from cloud.aws import client, errors
from cloud.aws.client import Ec2
from cloud.aws.driver import Aws
from cloud.errors import CloudError
from runtime.spec.clouds import AwsCloud
from tests.support.clouds import OWNER
from tests.support.loopback import loopback_only  # noqa: F401 - it guards every test of this file

CLOUD = AwsCloud(provider="aws", region="us-east-1", vpc="vpc-12345678")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who has keys in the environment, and nothing else anywhere."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "operator")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def _error(code: str, message: str = "", action: str = "CreateSecurityGroup") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, action)


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (_error("AuthFailure", "nobody knows you"), "nobody knows you", "AWS_PROFILE"),
        (_error("RequestExpired"), "have expired", "clock"),
        (_error("UnauthorizedOperation", "You may not."), "may not ec2:Create", "ec2:Create"),
        (
            _error("UnauthorizedOperation", "User u is not to perform: ec2:CreateTags on r"),
            "may not ec2:CreateTags in us-east-1",
            "the permission ec2:CreateTags",
        ),
        (_error("InvalidVpcID.NotFound"), "no network vpc-12345678 in us-east-1", "fleet.clouds"),
        (_error("OptInRequired"), "may not use us-east-1", "enable the region"),
        (_error("RulesPerSecurityGroupLimitExceeded"), "no more rules", "continues"),
        (
            _error("SecurityGroupsPerInterfaceLimitExceeded"),
            "no more security groups",
            "'Security groups per network interface' for EC2 in us-east-1",
        ),
        (_error("Unavailable"), "'Unavailable' for CreateSecurityGroup", "continues"),
        (_error("Strange", "news {x}"), "refused CreateSecurityGroup: Strange: news {x}", ""),
        (boto.NoCredentialsError(), "no credentials for AWS", "AWS_ACCESS_KEY_ID"),
        (boto.ProfileNotFound(profile="lab"), "lab", "AWS_PROFILE"),
        (boto.UnauthorizedSSOTokenError(), "no credentials", "AWS_PROFILE"),
        (boto.ReadTimeoutError(endpoint_url="https://x"), "EC2 in us-east-1 cannot", "HTTPS_PROXY"),
        (boto.EndpointConnectionError(endpoint_url="https://x"), "cannot be reached", "network"),
        (boto.ParamValidationError(report="why"), "gave up at CreateSecurityGroup", "AWS_*"),
    ],
)
def test_what_goes_wrong_is_said_with_what_to_do(error: Exception, said: str, hint: str) -> None:
    found = errors.refusal(error, "CreateSecurityGroup", CLOUD, lambda: {"us-east-1"})
    assert isinstance(found, CloudError)
    assert said in str(found)
    assert hint in found.hint


def test_a_region_that_nobody_knows_is_suspected_when_it_is_not_reached() -> None:
    error = boto.EndpointConnectionError(endpoint_url="https://ec2.us-east-9.amazonaws.com")
    found = errors.refusal(error, "DescribeVpcs", CLOUD, lambda: {"eu-west-1"})
    assert "look at region in fleet.clouds" in found.hint


@pytest.mark.usefixtures("credentials")
def test_what_takes_ec2_a_while_is_waited_for_a_minute() -> None:
    slept: list[float] = []
    ec2 = Ec2(CLOUD, slept.append)
    asked = {"GroupId": "sg-0"}
    with Stubber(ec2.client) as stub:
        for _ in range(2):
            stub.add_client_error("delete_security_group", "DependencyViolation", "", 400)
        stub.add_response("delete_security_group", {}, asked)
        ec2.patiently({"DependencyViolation"}, "delete_security_group", GroupId="sg-0")
        assert slept == [1, 2]
        stub.add_client_error("delete_security_group", "InvalidGroup.NotFound", "", 400)
        with pytest.raises(errors.RefusalError):
            ec2.patiently({"DependencyViolation"}, "delete_security_group", GroupId="sg-0")
        assert slept == [1, 2]
        for _ in client._WAITS:
            stub.add_client_error("delete_security_group", "DependencyViolation", "", 400)
        stub.add_client_error("delete_security_group", "DependencyViolation", "", 400)
        with pytest.raises(errors.RefusalError):
            ec2.patiently({"DependencyViolation"}, "delete_security_group", GroupId="sg-0")
        assert sum(slept) == 63
        stub.assert_no_pending_responses()
    answers: Iterator[bool] = iter([False, False, True])
    slept.clear()
    ec2.wait_until(lambda: next(answers))
    assert slept == [1, 2]
    ec2.wait_until(lambda: False)


@pytest.mark.usefixtures("credentials")
def test_to_amazon_requests_are_signed_with_the_operators_own_keys() -> None:
    seen: list[Any] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        seen.append(request)
        return AWSResponse(request.url, 401, {}, _Empty())

    ec2 = Ec2(CLOUD, lambda _: None)
    ec2.client.meta.events.register("before-send.ec2", answer)
    with pytest.raises(CloudError, match="what answers for EC2 in us-east-1 is not EC2"):
        ec2.call("describe_vpcs", VpcIds=[CLOUD.vpc])
    assert seen[0].url == "https://ec2.us-east-1.amazonaws.com/"
    assert b"Credential=operator/" in seen[0].headers["Authorization"]


class _Empty:
    """The body of an answer that has none."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        return iter(())


@pytest.mark.usefixtures("credentials")
def test_a_profile_that_is_not_there_and_missing_keys_are_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CloudError, match="there are no credentials for AWS") as found:
        Aws(CLOUD, "lab", OWNER).read()
    assert "AWS_PROFILE" in found.value.hint
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(CloudError, match="nobody"):
        Aws(CLOUD, "lab", OWNER)
