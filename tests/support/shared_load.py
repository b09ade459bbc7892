"""Run on a host that mounts a share: loads a model from it, and waits in the middle to be told on.

Usage: shared_load.py MODEL CACHE SECONDS
It prints "reading" after the first piece, reads a line of its input, goes on, and prints how it
ended: "loaded DIGEST" or "failed AFTER-SECONDS MESSAGE".
"""

import hashlib
import os
import sys
import time
from pathlib import Path

from runtime.errors import ModelError
from runtime.model import share
from runtime.model.manifest import MANIFEST, Manifest, ModelFile, Origin
from runtime.spec.base import Span


def make(directory: Path, block_bytes: int) -> None:
    """Write a model of one block that nobody can compute with, but everybody can copy."""
    directory.mkdir(parents=True)
    sizes = {
        "config.json": 200,
        "embeddings.safetensors": 1000,
        "head.safetensors": 1000,
        "block-0000.safetensors": block_bytes,
    }
    files = []
    for name, size in sizes.items():
        content = os.urandom(size)
        (directory / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append(ModelFile(name=name, bytes=size, sha256=digest))
    manifest = Manifest(
        name="random",
        origin=Origin(kind="huggingface", dtype="float32", fingerprint="0" * 64),
        model_type="llama",
        total_blocks=1,
        hidden_size=8,
        vocab_size=8,
        max_length=8,
        dtype="float32",
        tied=False,
        block_bytes=(block_bytes,),
        embeddings_bytes=1000,
        head_bytes=1000,
        files=tuple(files),
    )
    whole = manifest.model_copy(update={"digest": manifest.compute_digest()})
    (directory / MANIFEST).write_text(whole.model_dump_json())


def main(model: str, cache: str, seconds: str) -> None:
    """Load the first block as a server would."""
    copied, waited = share._copied, False

    def paused(source: Path, target: Path, tick: share.Tick) -> tuple[int, str]:
        def pause() -> None:
            nonlocal waited
            if not waited:
                waited = True
                print("reading", flush=True)
                sys.stdin.readline()
            tick()

        return copied(source, target, pause)

    share._copied = paused
    started = time.monotonic()
    try:
        kept = share.local_model(
            Path(model),
            Span(start=0, end=1),
            embeddings=True,
            cache=Path(cache),
            seconds=float(seconds),
        )
    except ModelError as error:
        print(f"failed {time.monotonic() - started:.1f} {error}", flush=True)
        # As a server that cannot start: whatever still waits in the kernel ends with it.
        sys.exit(1)
    found = hashlib.sha256((kept / "block-0000.safetensors").read_bytes()).hexdigest()
    print(f"loaded {found}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
