"""What EC2 and its client refuse, in the operator's words."""

import re
from collections.abc import Callable, Collection
from typing import Final

from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from cloud.errors import CloudError
from runtime.spec.clouds import AwsCloud

DUPLICATE_GROUP: Final = "InvalidGroup.Duplicate"
DUPLICATE_RULE: Final = "InvalidPermission.Duplicate"
NO_SUCH_GROUP: Final = "InvalidGroup.NotFound"
NO_SUCH_RULE: Final = "InvalidPermission.NotFound"
STILL_USED: Final = "DependencyViolation"
ASKED_OTHERWISE: Final = "IdempotentParameterMismatch"
ASKED_AND_ENDED: Final = "IdempotentInstanceTerminated"
NO_SUCH_INSTANCE: Final = "InvalidInstanceID.NotFound"
TOO_MANY_RULES: Final = "RulesPerSecurityGroupLimitExceeded"

_AGAIN: Final = "run the same command again: it continues"
_CREDENTIALS: Final = (
    "name a profile in AWS_PROFILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and "
    "AWS_SESSION_TOKEN, if they are temporary)"
)
_EXPIRED: Final = (
    f"sign in again (aws sso login, or a new AWS_SESSION_TOKEN) and {_AGAIN}; if they are new, "
    "look at this machine's clock"
)
_QUOTA: Final = "ask for more of AWS's quota '{}' for EC2 in {{region}}, or {}; then " + _AGAIN
_UNKNOWN: Final = "AWS does not accept these credentials: {message}"
_UNKNOWN_HINT: Final = f"{_CREDENTIALS}; the account must have {{region}} enabled"
_BUSY: Final = "AWS answers '{code}' for {action}, however often it is asked"
_BUSY_HINT: Final = f"wait a minute and {_AGAIN}"

_WORDS: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(
        (
            "AuthFailure",
            "IncompleteSignature",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "MissingAuthenticationToken",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ),
        (_UNKNOWN, _UNKNOWN_HINT),
    ),
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "RequestExpired"),
        ("the credentials for AWS have expired", _EXPIRED),
    ),
    **dict.fromkeys(
        ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"),
        (
            "these credentials may not {permission} in {region}: {message}",
            f"give the user or role of AWS_PROFILE the permission {{permission}}; then {_AGAIN}",
        ),
    ),
    **dict.fromkeys(
        ("OptInRequired", "Blocked"),
        (
            "this account of AWS may not use {region}: {message}",
            "enable the region in the account, or correct region in fleet.clouds",
        ),
    ),
    **dict.fromkeys(
        ("InvalidVpcID.NotFound", "InvalidVpcID.Malformed", "InvalidVpcId.Malformed"),
        (
            "there is no network {vpc} in {region}",
            "correct vpc and region in fleet.clouds, or name the profile of the account that it "
            "belongs to in AWS_PROFILE",
        ),
    ),
    "SecurityGroupLimitExceeded": (
        "there may be no more security groups in {region}",
        _QUOTA.format("VPC security groups per Region", "remove groups that nobody uses"),
    ),
    TOO_MANY_RULES: (
        "a security group may have no more rules: {message}",
        _QUOTA.format(
            "Inbound or outbound rules per security group",
            "remove what others have put into the fleet's groups (--purge)",
        ),
    ),
    **dict.fromkeys(
        ("SecurityGroupsPerInterfaceLimitExceeded", "SecurityGroupsPerInstanceLimitExceeded"),
        (
            "an instance can be in no more security groups: {message}",
            _QUOTA.format(
                "Security groups per network interface", "take it out of a group of others"
            ),
        ),
    ),
    **dict.fromkeys(
        ("InsufficientInstanceCapacity", "InsufficientHostCapacity", "SpotMaxPriceTooLow"),
        (
            "AWS has no machine of this type free there now: {message}",
            f"wait, or name another type or the subnet of another zone; then {_AGAIN}",
        ),
    ),
    **dict.fromkeys(
        ("VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded"),
        (
            "the account may have no more instances of this kind in {region}: {message}",
            _QUOTA.format("Running On-Demand … instances", "terminate what nobody uses"),
        ),
    ),
    "VolumeLimitExceeded": (
        "the account may have no more disks in {region}: {message}",
        _QUOTA.format("Storage for … volumes", "delete what nobody uses"),
    ),
    "InsufficientFreeAddressesInSubnet": (
        "the subnet has no free address: {message}",
        f"name another subnet in instance.subnet; then {_AGAIN}",
    ),
    **dict.fromkeys(
        ("InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "InvalidAMIID.Unavailable"),
        (
            "there is no such image in {region}: {message}",
            "correct instance.image: each region has ids of its own for one image",
        ),
    ),
    **dict.fromkeys(
        ("InvalidSubnetID.NotFound", "InvalidSubnet"),
        ("there is no such subnet in {region}: {message}", "correct instance.subnet"),
    ),
    "InvalidKeyPair.NotFound": (
        "there is no such key pair in {region}: {message}",
        "import your public key there (aws ec2 import-key-pair), or correct instance.key",
    ),
    "Unsupported": (
        "AWS does not make this instance there: {message}",
        "name the subnet of another zone, or another type",
    ),
    "IncorrectInstanceState": (
        "the instance is not in a state for {action}: {message}",
        f"wait a minute and {_AGAIN}",
    ),
    ASKED_OTHERWISE: (
        "an instance of this host was asked for a moment ago with other keys: {message}",
        "wait a minute until it is seen, and look with ./fleet cloud instances list",
    ),
    **dict.fromkeys(
        (
            "InternalError",
            "InternalFailure",
            "RequestLimitExceeded",
            "ServiceUnavailable",
            "Throttling",
            "ThrottlingException",
            "Unavailable",
        ),
        (_BUSY, _BUSY_HINT),
    ),
}

_SIGN_IN: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.ConfigNotFound,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
)


class RefusalError(CloudError):
    """A call that EC2 has refused, or that never reached it.

    Attributes:
        code: what EC2 calls the reason, or "" where it gave none.
    """

    def __init__(self, message: str, hint: str, code: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


def refusal(
    error: Exception, action: str, cloud: AwsCloud, regions: Callable[[], Collection[str]]
) -> RefusalError:
    """Return what an error of the client's means.

    Args:
        error: what the client raised.
        action: what EC2 was asked to do, such as CreateSecurityGroup.
        cloud: where.
        regions: gives the regions that the client knows of.
    """
    if isinstance(error, ClientError):
        return _refused(error, action, cloud)
    if isinstance(error, _SIGN_IN):
        return RefusalError(f"there are no credentials for AWS: {error}", _CREDENTIALS)
    if isinstance(error, (boto.ConnectionError, boto.HTTPClientError)):
        return _unreachable(error, cloud, regions)
    if isinstance(error, ResponseParserError):
        return RefusalError(
            f"what answers for EC2 in {cloud.region} is not EC2: {error}",
            "look at HTTPS_PROXY, AWS_ENDPOINT_URL and endpoint in fleet.clouds, and whether this "
            "machine's network wants a sign-in of its own",
        )
    return RefusalError(
        f"the client of AWS gave up at {action}: {error}",
        "look at ~/.aws/config and at the variables AWS_* that are set",
    )


def _refused(error: ClientError, action: str, cloud: AwsCloud) -> RefusalError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", ""))
    # What follows is hundreds of characters that only another permission can decode.
    message = message.partition(" Encoded authorization failure message")[0].rstrip(".")
    missing = re.search(r"perform: (\w+:\w+)", message)
    words, hint = _WORDS.get(code, ("AWS refused {action}: {code}: {message}", ""))
    facts = {
        "action": action,
        "code": code,
        "message": message,
        "permission": missing[1] if missing else f"ec2:{action}",
        "region": cloud.region,
        "vpc": cloud.vpc,
    }
    return RefusalError(words.format_map(facts), hint.format_map(facts), code)


def _unreachable(
    error: Exception, cloud: AwsCloud, regions: Callable[[], Collection[str]]
) -> RefusalError:
    where = f"EC2 in {cloud.region}"
    check = "look at this machine's network, HTTPS_PROXY and AWS_ENDPOINT_URL"
    if cloud.endpoint is not None:
        where = f"EC2 at {cloud.endpoint}"
        check = "look at endpoint in fleet.clouds"
    elif cloud.region not in regions():
        check = "no such region is known here: look at region in fleet.clouds"
    return RefusalError(f"{where} cannot be reached: {error}", f"{check}; then {_AGAIN}")
