"""The blocks that a server has loaded, and what it knows of their speed."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
import torch

from runtime import __version__
from runtime.checks.config import Checked
from runtime.engine.device import device_name, resolve_device
from runtime.engine.measurement import measured, probe, step_seconds
from runtime.engine.memory import free_bytes, resident_bytes
from runtime.engine.pace import Rates, steady
from runtime.engine.reference import load_engine
from runtime.engine.worker import Worker
from runtime.model.room import (
    RUNTIME_BYTES,
    Room,
    blocks_bytes,
    missing_bytes,
    most_blocks,
    require_room,
)
from runtime.spec.base import Span
from runtime.spec.stage import StageConfig
from runtime.stage.notebook import Notebook
from runtime.stage.weights import weights
from runtime.swarm.records import Speeds

log = structlog.get_logger()

NONE: Final = Span(start=0, end=0)
_LOOK_SECONDS = 5
_PROBE_SHARE = 0.02
"""No more of the time goes into measuring a server that has nothing to do."""


@dataclass(frozen=True)
class _Loaded:
    """Blocks that wait to be served."""

    span: Span
    worker: Worker
    rates: Rates


class Blocks:
    """Loads a server's blocks, measures them, and keeps what it measured true.

    Attributes:
        span: those that it serves, or is about to.
        worker: computes them; None while there are none.
    """

    def __init__(self, checked: Checked) -> None:
        """Load nothing yet."""
        self.span = NONE
        self.worker: Worker | None = None
        self._checked = checked
        self._rates: Rates | None = None
        self._said = 0.0
        self._coming: _Loaded | None = None
        self._notebook = Notebook.here()

    async def load(self, span: Span) -> Worker:
        """Return what computes these blocks, once no others are loaded any more.

        Raises:
            StagefleetError: the model directory cannot serve them.
        """
        # There may be memory for one of them only.
        self.stop()
        self.span, self.worker = span, await self._loaded(span)
        return self.worker

    async def measure(self) -> None:
        """Learn how fast the blocks are; no session may be open yet."""
        self._rates, self._said = None, 0.0
        if self.worker is not None and len(self.span):
            self._rates = await self._measured(self.worker)
            self._said = self._rates.throughput

    async def load_beside(self, span: Span) -> float:
        """Load these blocks while the others serve; return the decode steps per second of them.

        `switch` or `drop` has to follow.

        Raises:
            StagefleetError: the model directory cannot serve them.
        """
        worker = await self._loaded(span)
        try:
            rates = await self._measured(worker)
        except BaseException:
            worker.stop()
            raise
        self._coming = _Loaded(span, worker, rates)
        return rates.throughput

    def switch(self) -> Worker:
        """Serve what was loaded beside; return what computes the blocks until now.

        Raises:
            ValueError: nothing has been loaded beside.
        """
        coming, before = self._coming, self.worker
        if coming is None or before is None:
            raise ValueError("no blocks have been loaded beside others")
        self._coming = None
        self.span, self.worker, self._rates = coming.span, coming.worker, coming.rates
        self._said = coming.rates.throughput
        return before

    def drop(self) -> None:
        """Forget what was loaded beside, if anything was."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.worker.stop()

    def keeps_both(self, count: int) -> bool:
        """Return whether there is memory for so many blocks beside those that are loaded.

        They come with a budget of their own for keys and values; of the old one's, what sessions
        have not filled yet may still be taken too.
        """
        if self.worker is None:
            return False
        config, manifest = self._checked.config, self._checked.manifest
        room = Room(
            free=free_bytes(self.worker.engine.device),
            kv=self.worker.kv_total_bytes + self.worker.kv_used_bytes,
            runtime=0,
        )
        return missing_bytes(manifest, count, room, config.dtype) <= 0

    async def _measured(self, worker: Worker) -> Rates:
        checked = self._checked
        rates = await measured(worker, checked.config.max_batch, checked.max_length)
        seconds = rates.step_seconds / len(worker.engine.span)
        await asyncio.to_thread(self._notebook.write, self._about(), seconds)
        log.info(
            "measured",
            decode=f"{rates.throughput:.2f} tokens/s",
            decode_of_batch=f"{rates.batch_decode:.2f} tokens/s for {rates.batch} sequences",
            prefill=f"{rates.prefill:.2f} tokens/s",
        )
        return rates

    async def expected_throughput(self, num_blocks: int) -> float:
        """Return the decode steps per second through so many blocks, whichever they will be.

        One block tells it, or what was noted when this server last ran.
        """
        noted = self._notebook.block_seconds(self._about())
        if noted is not None:
            log.info("throughput expected from what was measured before")
            return 1 / (noted * num_blocks)
        worker = await self._loaded(Span(start=0, end=1))
        try:
            return 1 / (await step_seconds(worker) * num_blocks)
        finally:
            worker.stop()

    def _about(self) -> dict[str, str]:
        """Return everything that the time of a block's step depends on."""
        config, manifest = self._checked.config, self._checked.manifest
        return {
            "model": manifest.digest,
            "dtype": manifest.dtype if config.dtype == "auto" else config.dtype,
            "device": device_name(resolve_device(config.device)),
            "threads": str(config.threads),
            "torch": str(torch.__version__),
            "release": __version__,
        }

    def throughput(self) -> float:
        """Return the decode steps per second of one sequence, as they are now; 0 without blocks."""
        if self.worker is not None and self.worker.pace is not None:
            self._said = steady(self._said, self.worker.pace.throughput)
        return self._said

    @property
    def speeds(self) -> Speeds | None:
        """What else was measured, as a record says it."""
        if self._rates is None:
            return None
        return Speeds(self._rates.batch, self._rates.batch_decode, self._rates.prefill)

    async def keep_measuring(self, busy: Callable[[], bool]) -> None:
        """Measure anew, now and then, while nothing is to be done; runs until it is cancelled.

        Args:
            busy: whether a session is open, which is left alone.
        """
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            worker = self.worker
            if worker is None or worker.pace is None or busy():
                continue
            started = time.monotonic()
            if not worker.pace.is_stale(time.monotonic_ns()):
                continue
            probing = asyncio.create_task(probe(worker, busy))
            try:
                await asyncio.wait([probing])
            finally:
                probing.cancel()
            # One whose worker is stopped meanwhile ends with it, and has nothing to say.
            if self.worker is worker:
                probing.result()
            took = time.monotonic() - started
            await asyncio.sleep(took / _PROBE_SHARE)

    def stop(self) -> None:
        """Stop computing and free the memory."""
        self.drop()
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.stop()

    async def _loaded(self, span: Span) -> Worker:
        config = self._checked.config
        log.info("loading", model=str(config.model), blocks=str(span))
        return await Worker.load(
            lambda going: load_engine(
                weights(config, span, going),
                span,
                device=config.device,
                dtype=config.dtype,
                # Whoever has block 0, only the client side turns token ids into hidden states.
                embeddings=config.stage == 0,
                going=going,
            ),
            config.kv_cache_mib,
            config.threads,
        )


def num_blocks(checked: Checked) -> int:
    """Return how many blocks a server takes that chooses them by itself.

    Raises:
        ConfigError: there is no memory for so many, or none for a single one, or no such device.
    """
    config, manifest = checked.config, checked.manifest
    room = _room(config)
    if isinstance(config.num_blocks, int):
        require_room(manifest, config.num_blocks, room, config.dtype)
        return config.num_blocks
    count = most_blocks(manifest, room, config.dtype)
    log.info(
        "num_blocks auto",
        num_blocks=f"{count} of {manifest.total_blocks}",
        free=f"{room.free >> 20} MiB",
        weights=f"{blocks_bytes(manifest, count, config.dtype) >> 20} MiB",
        keys_and_values=f"{config.kv_cache_mib} MiB",
    )
    return count


def _room(config: StageConfig) -> Room:
    """Return what memory there is before anything has been loaded."""
    device = resolve_device(config.device)
    # On an accelerator, what the server itself takes is elsewhere, but torch takes about as much.
    taken = resident_bytes() if device.type == "cpu" else 0
    runtime = max(0, RUNTIME_BYTES - taken)
    return Room(free_bytes(device), config.kv_cache_mib << 20, runtime)
