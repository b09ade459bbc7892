"""Real packages in a real, signed repository of apt's, made on the spot."""

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 60


@dataclass(frozen=True)
class Deb:
    """A package: what dpkg knows of it, and the files in it by their paths."""

    name: str
    version: str
    depends: str = ""
    files: Mapping[str, str] | None = None


class SigningKey:
    """A throwaway OpenPGP key, in a directory of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home
        home.mkdir(mode=0o700)
        self._gpg("--quick-generate-key", "throwaway@example.invalid", "rsa2048", "sign", "never")
        listed = self._gpg("--list-keys", "--with-colons")
        self.fingerprint = next(
            line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")
        )

    @property
    def armoured(self) -> str:
        """Return the public key as text."""
        return self._gpg("--armor", "--export")

    def sign(self, path: Path) -> str:
        """Return a text with its signature around it."""
        return self._gpg("--clearsign", "--digest-algo", "SHA256", "--output", "-", str(path))

    def _gpg(self, *arguments: str) -> str:
        return subprocess.run(
            [
                "gpg",
                "--homedir",
                str(self._home),
                "--batch",
                "--yes",
                "--passphrase",
                "",
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        ).stdout

    def close(self) -> None:
        """End the agent that gpg has started for this key."""
        command = ["gpgconf", "--homedir", str(self._home), "--kill", "all"]
        subprocess.run(command, timeout=_SECONDS, check=False)


def publish(directory: Path, debs: list[Deb], key: SigningKey | None = None) -> None:
    """Make a directory a flat repository of these packages, signed if there is a key."""
    directory.mkdir(parents=True, exist_ok=True)
    index = "\n".join(_described(directory, deb) for deb in debs)
    (directory / "Packages").write_text(index)
    digest = hashlib.sha256(index.encode()).hexdigest()
    release = directory / "Release"
    release.write_text(
        "Origin: tests\nDate: Mon, 01 Jan 2024 00:00:00 UTC\nArchitectures: amd64 all\n"
        f"SHA256:\n {digest} {len(index.encode())} Packages\n"
    )
    if key is not None:
        (directory / "InRelease").write_text(key.sign(release))
        release.unlink()


def _described(directory: Path, deb: Deb) -> str:
    """Return a package's entry of the index, and build the package."""
    name = f"{deb.name}_{deb.version.replace(':', '-')}_all.deb"
    path = directory / name
    control = (
        f"Package: {deb.name}\nVersion: {deb.version}\nArchitecture: all\n"
        "Maintainer: tests <tests@example.invalid>\n"
        + (f"Depends: {deb.depends}\n" if deb.depends else "")
        + "Description: a package of tests\n"
    )
    if not path.exists():
        tree = directory / f"{name}.tree"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN" / "control").write_text(control)
        for inside, text in (deb.files or {}).items():
            file = tree / inside.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", "-Znone", str(tree), str(path)],
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return f"{control}Filename: ./{name}\nSize: {len(data)}\nSHA256: {digest}\n"
