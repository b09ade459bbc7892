"""EC2 on loopback: moto, behind a layer that refuses what EC2 refuses and moto lets pass."""

import functools
import io
import re
import socket
import sys
import threading
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from boto3.session import Session
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.support import aws_rules as rules
from tests.support.aws_instances import KEY, Instances
from tests.support.aws_rules import ACCOUNT, REGION

IMAGE: Final = "ami-12c6146b"
"""One of those that moto knows."""

CLOSED: Final = "the connection ends before the call is made"
LOST: Final = "the call is made, and its answer is lost"

_NAMESPACE: Final = "http://ec2.amazonaws.com/doc/2016-11-15/"
_LISTS: Final = {
    "DescribeSecurityGroups": "securityGroupInfo",
    "DescribeInstances": "reservationSet",
    "DescribeNetworkInterfaces": "networkInterfaceSet",
}
_CHANGES: Final = {"StartInstances", "StopInstances", "TerminateInstances"}
_STATUS: Final = {"RequestLimitExceeded": 503, "Unavailable": 503, "InternalError": 500}

Environment = dict[str, Any]
StartResponse = Callable[..., Any]


@dataclass
class StrictEc2:
    """A WSGI application.

    Attributes:
        page: at most as many groups, instances or interfaces are in one answer.
        faults: for each call to come, by its number from 0, a code of EC2's, `CLOSED` or `LOST`.
        refused: codes for the calls to come of an action, one for each call; "" lets one pass.
        blind: calls to come, by their numbers, whose lists show nothing yet.
        denied: actions that the credentials do not allow.
        most_groups: how many groups the network may have.
        instances: what is known of instances.
        actions: the calls so far.
        keys: the access keys that these calls were signed with.
    """

    page: int = 1000
    faults: dict[int, str] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    blind: set[int] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    most_groups: int = 2500
    instances: Instances = field(default_factory=Instances)
    actions: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    _app: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        """Let the next test count its calls, and meet none of the faults of the one before."""
        self.page, self.most_groups, self.instances.looks = 1000, 2500, 0
        for each in (self.faults, self.refused, self.blind, self.denied, self.actions, self.keys):
            each.clear()

    def __call__(self, environ: Environment, start: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        form = dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))
        with self._lock:
            return self._answer(form, environ, start)

    def _answer(
        self, form: dict[str, str], environ: Environment, start: StartResponse
    ) -> Iterable[bytes]:
        action = form["Action"]
        signer = re.search(r"Credential=([^/]*)/", environ.get("HTTP_AUTHORIZATION", ""))
        self.keys.add(signer[1] if signer else "")
        fault = self.faults.pop(len(self.actions), "")
        self.actions.append(action)
        if fault == CLOSED:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        try:
            if fault not in {"", LOST}:
                raise rules.RefusedError(fault)
            self._refuse_as_told(action)
            status, answer = self._made(action, form, environ)
        except rules.RefusedError as error:
            status, answer = _STATUS.get(error.code, 400), _error(error)
        if fault == LOST:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        headers = [("Content-Type", "text/xml"), ("Content-Length", str(len(answer)))]
        start(f"{status} {'OK' if status == 200 else 'Error'}", headers)
        return [answer]

    def _refuse_as_told(self, action: str) -> None:
        if action in self.denied:
            raise rules.RefusedError(
                "UnauthorizedOperation",
                "You are not authorized to perform this operation. User: arn:aws:iam::"
                f"{ACCOUNT}:user/op is not authorized to perform: ec2:{action} on resource: "
                f"arn:aws:ec2:{REGION}:{ACCOUNT}:* because no identity-based policy allows it. "
                f"Encoded authorization failure message: {'c2VjcmV0' * 40}",
            )
        code = self.refused[action].pop(0) if self.refused.get(action) else ""
        if code:
            raise rules.RefusedError(code)

    def _made(self, action: str, form: dict[str, str], environ: Environment) -> tuple[int, bytes]:
        tree = rules.nested(form)
        if action == "AuthorizeSecurityGroupIngress":
            rules.authorize(rules.group(form["GroupId"]), rules.permissions(tree))
            return 200, _true(action)
        if action == "RevokeSecurityGroupIngress":
            rules.revoke(rules.group(form["GroupId"]), rules.permissions(tree))
            return 200, _true(action)
        known = self._checked(action, form, tree)
        if known is not None:
            return 200, known
        asked = {key: each for key, each in form.items() if key not in {"MaxResults", "NextToken"}}
        status, answer = self._ask_moto(self.instances.by_id(asked), environ)
        if status == 200:
            self._note(action, form, answer)
        if status == 200 and action in _LISTS:
            size = min(self.page, int(form.get("MaxResults", self.page)))
            unseen = sys.maxsize if len(self.actions) - 1 in self.blind else 0
            start = max(int(form.get("NextToken", "0")), unseen)
            answer = _page(answer, _LISTS[action], start, size)
        return status, answer

    def _checked(self, action: str, form: dict[str, str], tree: dict[str, Any]) -> bytes | None:
        """Return the answer to a call that was made before, or None for one that may be made."""
        if action == "CreateSecurityGroup":
            rules.check_new_group(form, self.most_groups)
        elif action == "DeleteSecurityGroup":
            rules.check_unused(rules.group(form["GroupId"]))
        elif action == "ModifyNetworkInterfaceAttribute":
            rules.check_attached(list(tree.get("SecurityGroupId", {}).values()))
        elif action == "DescribeInstances":
            self.instances.looked()
        elif action in _CHANGES:
            self.instances.check_change(action, form["InstanceId.1"])
        return self.instances.asked(form) if action == "RunInstances" else None

    def _note(self, action: str, form: dict[str, str], answer: bytes) -> None:
        """Keep what moto does not keep of what was done."""
        if action == "ModifyNetworkInterfaceAttribute":
            rules.agree(form["NetworkInterfaceId"])
        elif action == "RunInstances":
            found = re.search(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", answer)
            assert found, answer
            self.instances.made(form, found[1].decode(), answer)
        elif action in _CHANGES:
            self.instances.changed(form["InstanceId.1"])

    def _ask_moto(self, form: dict[str, str], environ: Environment) -> tuple[int, bytes]:
        body = urllib.parse.urlencode(form).encode()
        seen: list[str] = []
        again = environ | {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        answer = b"".join(self._app(again, lambda status, *_: seen.append(status)))
        return int(seen[0].split()[0]), answer


@dataclass(frozen=True)
class Network:
    """A network of its own for one test.

    Attributes:
        vpc, subnet: their ids.
        boto: the client of somebody else.
    """

    vpc: str
    subnet: str
    boto: Any

    def instance(self, **tags: str) -> str:
        """Start an instance with these tags (a dash in a name is written _), return its id."""
        marks = [{"Key": key.replace("_", "-"), "Value": value} for key, value in tags.items()]
        made = self.boto.run_instances(
            ImageId=IMAGE,
            MinCount=1,
            MaxCount=1,
            SubnetId=self.subnet,
            TagSpecifications=[{"ResourceType": "instance", "Tags": marks}] if marks else [],
        )
        return str(made["Instances"][0]["InstanceId"])

    def group(self, name: str, **tags: str) -> str:
        """Make a security group, return its id."""
        marks = [{"Key": key.replace("_", "-"), "Value": value} for key, value in tags.items()]
        made = self.boto.create_security_group(
            GroupName=name,
            Description="made by somebody else",
            VpcId=self.vpc,
            TagSpecifications=[{"ResourceType": "security-group", "Tags": marks}] if marks else [],
        )
        return str(made["GroupId"])

    def groups(self) -> dict[str, dict[str, Any]]:
        """Return the security groups of the network, by their names."""
        filters = [{"Name": "vpc-id", "Values": [self.vpc]}]
        found = self.boto.get_paginator("describe_security_groups").paginate(Filters=filters)
        return {each["GroupName"]: each for page in found for each in page["SecurityGroups"]}

    def state(self, instance: str) -> str:
        """Return in which state an instance is."""
        found = self.boto.describe_instances(InstanceIds=[instance])["Reservations"][0]
        return str(found["Instances"][0]["State"]["Name"])

    def interface(self, instance: str) -> str:
        """Return the id of the network interface of an instance."""
        found = self.boto.describe_instances(InstanceIds=[instance])["Reservations"][0]
        return str(found["Instances"][0]["NetworkInterfaces"][0]["NetworkInterfaceId"])

    def attached(self, instance: str) -> set[str]:
        """Return the names of the groups that an instance is in."""
        found = self.boto.describe_instances(InstanceIds=[instance])
        interface = found["Reservations"][0]["Instances"][0]["NetworkInterfaces"][0]
        return {group["GroupName"] for group in interface["Groups"]}


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: Any) -> None:
        pass


@contextmanager
def serve() -> Iterator[tuple[StrictEc2, str]]:
    """Serve an EC2, and give it with its address."""
    strict = StrictEc2()
    server = make_server("127.0.0.1", 0, strict, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield strict, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def network(endpoint: str) -> Network:
    """Make a network that nothing is in, where operators have a key pair."""
    boto = _boto(endpoint)
    if not boto.describe_key_pairs()["KeyPairs"]:
        boto.create_key_pair(KeyName=KEY)
    vpc = boto.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = boto.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/20")["Subnet"]["SubnetId"]
    return Network(vpc=vpc, subnet=subnet, boto=boto)


@functools.cache
def _boto(endpoint: str) -> Any:
    keys = {"aws_access_key_id": "somebody", "aws_secret_access_key": "else"}
    return Session(region_name=REGION, **keys).client("ec2", endpoint_url=endpoint)


def _page(answer: bytes, name: str, start: int, size: int) -> bytes:
    root = ET.fromstring(answer)
    tag = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    listed = root.find(f"{tag}{name}")
    assert listed is not None, answer
    items = list(listed)
    for item in (*items[:start], *items[start + size :]):
        listed.remove(item)
    for token in root.findall(f"{tag}nextToken"):
        root.remove(token)
    if len(items) > start + size:
        ET.SubElement(root, f"{tag}nextToken").text = str(start + size)
    return ET.tostring(root)


def _true(action: str) -> bytes:
    return (
        f'<{action}Response xmlns="{_NAMESPACE}"><requestId>0</requestId>'
        f"<return>true</return></{action}Response>"
    ).encode()


def _error(error: rules.RefusedError) -> bytes:
    root = ET.Element("Response")
    found = ET.SubElement(ET.SubElement(root, "Errors"), "Error")
    ET.SubElement(found, "Code").text = error.code
    ET.SubElement(found, "Message").text = str(error)
    ET.SubElement(root, "RequestID").text = "0"
    return ET.tostring(root)
