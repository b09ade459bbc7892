"""Who may take part in the DHT: members only, and each for itself alone."""

import dataclasses
import time
from pathlib import Path

import pytest
from hivemind.dht.validation import DHTRecord
from hivemind.proto.dht_pb2 import PingRequest, PingResponse
from hivemind.utils import MSGPackSerializer
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.swarm.authority import Authority
from runtime.swarm.gates import LONGEST_SECONDS, MemberAuthorizer, MemberRecords
from runtime.swarm.identity import (
    AUTHORITY,
    CERTIFICATE,
    create_identity,
    private_key,
    signing_request,
)
from runtime.swarm.membership import Membership


def member(root: Path, server: str, authority: str = "authority") -> Membership:
    issuer = Authority(root / authority, "lab")
    issuer.create()
    directory = root / f"{authority}-{server}"
    create_identity(directory)
    signed = issuer.sign(server, signing_request(private_key(directory)))
    (directory / CERTIFICATE).write_text(signed.certificate)
    (directory / AUTHORITY).write_text(signed.authority)
    return Membership(directory, "lab")


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> tuple[Membership, Membership, Membership]:
    root = tmp_path_factory.mktemp("members")
    return member(root, "stage-0"), member(root, "stage-1"), member(root, "stage-0", "other")


Members = tuple[Membership, Membership, Membership]


def record(
    author: Membership, value: bytes = b"value", key: bytes = b"key", seconds: float = 60
) -> DHTRecord:
    subkey = MSGPackSerializer.dumps(author.peer_id)
    plain = DHTRecord(key, subkey, value, time.time() + seconds)
    return dataclasses.replace(plain, value=MemberRecords(author).sign_value(plain))


def test_a_members_own_record_is_taken_and_comes_back_as_it_was(members: Members) -> None:
    zero, one, _ = members
    signed = record(zero, b"hello")
    assert MemberRecords(one).validate(signed)
    assert MemberRecords(one).strip_value(signed) == b"hello"


@pytest.mark.parametrize("seconds", [LONGEST_SECONDS + 60, 1e12, float("inf"), float("nan")])
def test_a_record_from_the_future_is_refused(members: Members, seconds: float) -> None:
    zero, one, _ = members
    assert not MemberRecords(one).validate(record(zero, seconds=seconds))
    assert MemberRecords(one).validate(record(zero, seconds=LONGEST_SECONDS - 60))


def test_a_record_without_a_signature_is_refused(members: Members) -> None:
    plain = dataclasses.replace(record(members[0]), value=b"value")
    assert not MemberRecords(members[1]).validate(plain)


def test_a_record_of_another_fleet_is_refused(members: Members) -> None:
    zero, _, stranger = members
    assert not MemberRecords(zero).validate(record(stranger))


def test_no_member_speaks_for_another(members: Members) -> None:
    zero, one, _ = members
    stolen = dataclasses.replace(record(one), subkey=MSGPackSerializer.dumps(zero.peer_id))
    plain = dataclasses.replace(stolen, value=b"lie")
    forged = dataclasses.replace(plain, value=MemberRecords(one).sign_value(plain))
    assert not MemberRecords(zero).validate(stolen)
    assert not MemberRecords(zero).validate(forged)


@pytest.mark.parametrize("field", ["key", "expiration_time", "subkey"])
def test_a_record_cannot_be_moved_or_prolonged(members: Members, field: str) -> None:
    zero, one, _ = members
    other = {"key": b"elsewhere", "expiration_time": time.time() + 9999, "subkey": b"\xa1x"}[field]
    assert not MemberRecords(one).validate(dataclasses.replace(record(zero), **{field: other}))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_record_is_refused_or_says_the_same(
    members: Members, data: st.DataObject
) -> None:
    """A certificate has a few bytes outside of what is signed; they decide nothing."""
    zero, one, _ = members
    signed = record(zero)
    damaged = bytearray(signed.value)
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    changed = dataclasses.replace(signed, value=bytes(damaged))
    assert not MemberRecords(one).validate(changed) or (
        MemberRecords(one).strip_value(changed) == b"value"
    )


def test_a_certificate_that_the_parser_only_warns_of_is_none(members: Members) -> None:
    zero, one, _ = members
    negative = bytearray(zero.certificate)
    # The first byte of its serial number, behind three headers and its version.
    place = bytes(negative).index(b"\xa0\x03\x02\x01\x02\x02") + 7
    negative[place] |= 0x80
    assert one.member(bytes(negative)) is None


@given(st.binary(max_size=200))
def test_noise_is_refused(members: Members, noise: bytes) -> None:
    assert not MemberRecords(members[0]).validate(
        DHTRecord(b"key", b"\xa1x", noise, time.time() + 60)
    )


async def test_requests_and_answers_between_members_pass(members: Members) -> None:
    caller, callee = MemberAuthorizer(members[0]), MemberAuthorizer(members[1])
    request, answer = PingRequest(), PingResponse()
    await caller.sign_request(request, None)
    assert await callee.validate_request(request)
    await callee.sign_response(answer, request)
    assert await caller.validate_response(answer, request)


async def test_a_stranger_can_neither_ask_nor_answer(members: Members) -> None:
    ours, stranger = MemberAuthorizer(members[0]), MemberAuthorizer(members[2])
    request = PingRequest()
    await stranger.sign_request(request, None)
    assert not await ours.validate_request(request)
    own = PingRequest()
    await ours.sign_request(own, None)
    answer = PingResponse()
    await stranger.sign_response(answer, own)
    assert not await ours.validate_response(answer, own)


async def test_a_token_of_another_key_is_refused(members: Members) -> None:
    ours, other = MemberAuthorizer(members[0]), MemberAuthorizer(members[1])
    token = await other.get_token()
    token.public_key = ours.local_public_key.to_bytes()
    assert not ours.is_token_valid(token)


async def test_a_request_without_a_signature_is_refused(members: Members) -> None:
    assert not await MemberAuthorizer(members[0]).validate_request(PingRequest())
