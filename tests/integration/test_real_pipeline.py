"""SmolLM2-135M-Instruct through real servers: its text, its seeds and the memory that it takes."""

from itertools import pairwise
from pathlib import Path

import pytest

from runtime.cli.project import ROOT
from runtime.client.prompts import Tokenizer
from runtime.client.request import GenerationRequest
from runtime.model.manifest import read_manifest
from tests.support.models import sample_model as imported_sample
from tests.support.pipelines import greedy_ids
from tests.support.swarm import collect, gateway, swarm_in_process, swarm_of_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SPLITS = [(), (15,), (8, 16, 24), (1, 2, 29), (6, 12, 18, 24)]
# Tokens of the prompts of one batch.
LENGTHS = [(1,), (500,), (3, 61, 150, 17)]
NEW_TOKENS = 8
MIB = 1 << 20
# Where all servers are one process, a long prompt on a busy machine delays what they announce.
PATIENT = {"announce_period_seconds": 5}
# Python, torch, transformers and hivemind, before any weight; docs/how-to/import-a-model.md.
PROCESS_BYTES = 512 * MIB


def prompts(lengths: tuple[int, ...]) -> tuple[str, ...]:
    """Return beginnings of an English text with so many tokens each."""
    tokenizer = Tokenizer(imported_sample())
    text = (ROOT / "LICENSE").read_text()
    offsets = tokenizer.fast(text, return_offsets_mapping=True)["offset_mapping"]
    return tuple(text[: offsets[length - 1][1]] for length in lengths)


@pytest.fixture(scope="module")
def wanted(sample_model: Path) -> dict[tuple[int, ...], list[list[int]]]:
    """What transformers' own unsplit `generate` says to each batch."""
    return {each: greedy_ids(sample_model, prompts(each), NEW_TOKENS) for each in LENGTHS}


@pytest.mark.parametrize("splits", SPLITS, ids=str)
async def test_servers_give_the_unsplit_models_tokens(
    splits: tuple[int, ...],
    wanted: dict[tuple[int, ...], list[list[int]]],
    sample_model: Path,
    tmp_path: Path,
) -> None:
    async with swarm_in_process(tmp_path, sample_model, splits, **PATIENT) as client:
        for lengths in LENGTHS:
            request = GenerationRequest(
                prompts=prompts(lengths), max_new_tokens=NEW_TOKENS, ignore_eos=True
            )
            events, end = await collect(client, request)
            assert events[0].prompt_tokens == lengths  # type: ignore[union-attr]  # a RouteEvent
            assert [list(ids) for ids in end.token_ids] == wanted[lengths]


async def test_a_seed_gives_the_same_sample_through_any_servers(
    sample_model: Path, tmp_path: Path
) -> None:
    found: dict[int, object] = {}
    for splits in ((15,), (8, 16, 24)):
        root = tmp_path / str(len(splits))
        async with swarm_in_process(root, sample_model, splits, **PATIENT) as client:
            for seed in (1, 1, 2):
                request = GenerationRequest(
                    prompts=("Once upon a time", "The sea"),
                    max_new_tokens=12,
                    temperature=1,
                    top_k=100,
                    top_p=0.9,
                    seed=seed,
                )
                _, end = await collect(client, request)
                assert found.setdefault(seed, end.token_ids) == end.token_ids
    assert found[1] != found[2]


def test_a_server_takes_the_memory_of_its_span_and_a_constant(
    sample_model: Path, tmp_path: Path
) -> None:
    from runtime.gateway.remote import events

    manifest = read_manifest(sample_model)
    splits = (1, 21)
    with swarm_of_processes(tmp_path, sample_model, splits, **PATIENT) as processes:
        request = {"prompts": ["Once upon a time"], "max_new_tokens": 4}
        assert list(events(gateway(processes.plan), request))[-1]["event"] == "end"
        for stage, (start, end) in enumerate(pairwise((0, *splits, manifest.total_blocks))):
            weights = sum(manifest.block_bytes[start:end])
            weights += manifest.embeddings_bytes if stage == 0 else 0
            if end == manifest.total_blocks:
                weights += manifest.head_bytes + manifest.tied * manifest.embeddings_bytes
            peak = peak_bytes(processes.pid(stage))
            assert weights < peak <= weights + PROCESS_BYTES, (
                f"stage {stage}: {peak / MIB:.0f} MiB for {weights / MIB:.0f} MiB of weights"
            )


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had at one time."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10
