"""The key of a repository is known by its fingerprint, and is alone."""

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cli.project import ROOT
from tests.support.debs import SigningKey

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="needs gpg")


def module() -> ModuleType:
    path = ROOT / "roles" / "cuda" / "library" / "cuda_key.py"
    spec = importlib.util.spec_from_file_location("cuda_key", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


KEY = module()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SigningKey]:
    found = SigningKey(tmp_path_factory.mktemp("gpg") / "home")
    yield found
    found.close()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SigningKey]:
    found = SigningKey(tmp_path_factory.mktemp("gpg") / "home")
    yield found
    found.close()


def test_the_fingerprint_is_the_one_that_gpg_computes(key: SigningKey) -> None:
    assert KEY.fingerprints(KEY.binary(key.armoured.encode())) == [key.fingerprint]
    with_windows_lines = key.armoured.replace("\n", "\r\n").encode()
    assert KEY.fingerprints(KEY.binary(with_windows_lines)) == [key.fingerprint]


def test_a_second_key_behind_the_first_is_seen(key: SigningKey, other: SigningKey) -> None:
    both = KEY.binary(key.armoured.encode()) + KEY.binary(other.armoured.encode())
    assert KEY.fingerprints(both) == [key.fingerprint, other.fingerprint]


def test_apts_own_program_reads_what_is_kept(key: SigningKey, tmp_path: Path) -> None:
    ring, text = tmp_path / "ring.gpg", tmp_path / "text"
    KEY.write(ring, KEY.binary(key.armoured.encode()))
    text.write_text("what is signed\n")
    signed = tmp_path / "signed"
    signed.write_text(key.sign(text))
    command = ["gpgv", "--keyring", str(ring), str(signed)]
    assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def test_a_key_that_is_cut_off_or_changed_is_another_or_none(key: SigningKey) -> None:
    data = KEY.binary(key.armoured.encode())
    # Its first packet, the key itself, is longer than this.
    for length in range(1, 250):
        with pytest.raises(KEY.BadKeyError):
            KEY.fingerprints(data[:length])
    changed = bytearray(data)
    changed[20] ^= 1
    assert KEY.fingerprints(bytes(changed)) != [key.fingerprint]


@given(st.binary(max_size=200))
def test_anything_else_is_refused_or_has_no_key(data: bytes) -> None:
    try:
        found = KEY.fingerprints(KEY.binary(data))
    except KEY.BadKeyError:
        return
    assert all(len(each) == 40 for each in found)
