#!/usr/bin/python
"""Keeps the public key of a repository, which is the one with a given fingerprint and no other."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url

DOCUMENTATION = r"""
module: cuda_key
short_description: The public key of a repository, known by its fingerprint
description:
  - Fetches an OpenPGP key and keeps it, in binary form, if it is alone and has the fingerprint.
  - A key that is there and has the fingerprint is not fetched again.
options:
  url:
    type: str
    required: true
    description: Where the key is.
  fingerprint:
    type: str
    required: true
    description: The fingerprint of the key, version 4, in hexadecimal digits.
  path:
    type: path
    required: true
    description: Where to keep it.
author: [stagefleet]
"""
EXAMPLES = r"""
- name: Ensure the key is there
  cuda_key:
    url: https://packages.example/key.asc
    fingerprint: EB693B3035CD5710E231E123A4B469963BF863CC
    path: /etc/apt/keyrings/example.gpg
"""
RETURN = r"""
"""

SECONDS = 60
# A public key has a few kilobytes.
LONGEST = 2**20
PUBLIC_KEY = 6  # the tag of a packet with a primary key (RFC 9580, section 5)


class BadKeyError(ValueError):
    """What was fetched is not the key; its text is for the operator."""


def main() -> None:
    """Keep the key."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "fingerprint": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    path, wanted = Path(module.params["path"]), module.params["fingerprint"].upper()
    try:
        if path.is_file() and fingerprints(binary(path.read_bytes())) == [wanted]:
            module.exit_json(changed=False)
    except BadKeyError:
        # It is not ours, or was cut off; it is replaced.
        pass
    if module.check_mode:
        module.exit_json(changed=True)
    url = module.params["url"]
    response, info = fetch_url(module, url, timeout=SECONDS)
    if info["status"] not in (200, -1) or response is None:
        module.fail_json(
            msg=f"the key of the repository cannot be fetched from {url}: {info['msg']}"
        )
    try:
        key = binary(response.read(LONGEST))
        found = fingerprints(key)
    except BadKeyError as error:
        module.fail_json(msg=f"{url} is no key: {error}")
    if found != [wanted]:
        module.fail_json(
            msg=f"{url} has the key {' and '.join(found)} and not {wanted}: nothing was changed. "
            "If the repository has a new key, a new release of stagefleet names it"
        )
    write(path, key)
    module.exit_json(changed=True)


def binary(data: bytes) -> bytes:
    """Return a key without its armour."""
    if not data.startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"):
        return data
    # Headers end with an empty line; a line that begins with "=" is a checksum.
    body = re.split(rb"\r?\n\r?\n", data, maxsplit=1)[-1].split(b"-----END")[0]
    lines = [line for line in body.split() if not line.startswith(b"=")]
    try:
        return base64.b64decode(b"".join(lines), validate=True)
    except binascii.Error as error:
        raise BadKeyError(f"its armour is damaged: {error}") from None


def fingerprints(data: bytes) -> list[str]:
    """Return the fingerprints of all primary keys, of version 4."""
    found = []
    for tag, body in packets(data):
        if tag == PUBLIC_KEY:
            if body[:1] != b"\x04":
                raise BadKeyError("it has a key that is not of version 4")
            framed = b"\x99" + len(body).to_bytes(2, "big") + body
            # What a fingerprint is by definition; nobody's secrecy depends on it here.
            found.append(hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper())
    return found


def packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the body of each packet (RFC 9580, section 4.2)."""
    place = 0
    while place < len(data):
        first = data[place]
        place += 1
        if not first & 0x80:
            raise BadKeyError("it does not consist of packets")
        if first & 0x40:
            tag = first & 0x3F
            length, place = new_length(data, place)
        else:
            tag = first >> 2 & 0x0F
            octets = {0: 1, 1: 2, 2: 4}.get(first & 3)
            if octets is None:
                raise BadKeyError("it has a packet without a length")
            length = int.from_bytes(data[place : place + octets], "big")
            place += octets
        if place + length > len(data):
            raise BadKeyError("it is cut off")
        yield tag, data[place : place + length]
        place += length


def new_length(data: bytes, place: int) -> tuple[int, int]:
    """Return the length of a packet of the new form, and where its body begins."""
    first = data[place] if place < len(data) else 0
    if first < 192:
        return first, place + 1
    if first < 224:
        second = int.from_bytes(data[place + 1 : place + 2], "big")
        return ((first - 192) << 8) + second + 192, place + 2
    if first == 255:
        return int.from_bytes(data[place + 1 : place + 5], "big"), place + 5
    raise BadKeyError("it has a packet in parts")


def write(path: Path, data: bytes) -> None:
    """Write a file as a whole, for everybody to read."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(data)
    unfinished.rename(path)


if __name__ == "__main__":
    main()
