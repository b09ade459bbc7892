import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runtime.spec.base import Span
from runtime.spec.stage import StageConfig, check_splits, stage_spans


def config(**fields: object) -> StageConfig:
    return StageConfig.model_validate({"model": Path("/m"), "stage": 1, "splits": (8, 16)} | fields)


models_with_splits = st.integers(2, 80).flatmap(
    lambda total: st.tuples(st.just(total), st.sets(st.integers(1, total - 1), max_size=6))
)


@given(models_with_splits)
def test_the_spans_of_valid_splits_tile_the_model(drawn: tuple[int, set[int]]) -> None:
    total, chosen = drawn
    splits = tuple(sorted(chosen))
    check_splits(splits, total)
    spans = stage_spans(splits, total)
    blocks = [block for span in spans for block in range(span.start, span.end)]
    assert blocks == list(range(total))
    assert all(len(span) for span in spans)


@given(st.lists(st.integers(-3, 40), max_size=6).map(tuple), st.integers(1, 32))
def test_splits_are_accepted_exactly_if_they_rise_within_the_model(
    splits: tuple[int, ...], total: int
) -> None:
    valid = list(splits) == sorted(set(splits)) and all(0 < split < total for split in splits)
    try:
        check_splits(splits, total)
    except ValueError:
        assert not valid
    else:
        assert valid


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"splits": (8, 8)}, "no block is left for stage 1, because stage 2 starts at block 8"),
        ({"splits": (8, 4)}, "stages 1 and 2 overlap: stage 2 would start at block 4"),
        ({"splits": (0,)}, "no block is left for stage 0"),
        ({"splits": (8, 40), "total_blocks": 32}, "the model's blocks are 0 to 31"),
        ({"stage": 3}, "stage 3 does not exist: splits [8, 16] make stages 0 to 2"),
        ({"dht_port": 9000, "rpc_port": 9000}, "share a port: [9000, 9000]"),
        ({"stage": 0, "rpc_port": 8080}, "share a port"),
        ({"prompt": "hi"}, "prompt belongs to stage 0"),
        ({"public_rpc_port": 4000}, "need public_ip"),
        ({"bind": "0.0.0.0"}, "peers are told no address"),
        ({"use_load_balancing": True}, "needs num_blocks"),
        ({"use_load_balancing": True, "num_blocks": 9, "total_blocks": 8}, "more than the model"),
        ({"device": "gpu"}, "device"),
        ({"dht_port": 0}, "dht_port"),
        ({"dht_port": 65536}, "dht_port"),
    ],
)
def test_impossible_configurations_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as found:
        config(**fields)
    assert said in str(found.value)


def test_ports_default_to_the_catalogue() -> None:
    assert (config().listen_dht_port, config().listen_rpc_port) == (8002, 8003)
    assert config(rpc_port=9999).listen_rpc_port == 9999


def test_peers_are_told_the_own_addresses_first_and_the_mapped_one_last() -> None:
    behind_nat = config(
        bind="0.0.0.0",
        addresses=("10.0.0.5",),
        public_ip="203.0.113.7",
        public_dht_port=40002,
        public_rpc_port=40003,
    )
    assert behind_nat.announced_addresses == (
        ("10.0.0.5", 8002, 8003),
        ("203.0.113.7", 40002, 40003),
    )
    assert config(bind="10.0.0.5").announced_addresses == (("10.0.0.5", 8002, 8003),)


def test_splits_are_read_from_a_list_and_from_a_command_line() -> None:
    text = json.dumps({"model": "/m", "stage": 0, "splits": [3, 5]})
    assert StageConfig.model_validate_json(text).splits == (3, 5)
    assert config(splits="8,16,24", stage=3).splits == (8, 16, 24)


def test_splits_give_each_stage_its_span_and_balanced_mode_stage_0_none() -> None:
    assert config(splits=(3, 5), stage=1).span(8) == Span(start=3, end=5)
    assert config(splits=(3, 5), stage=2).span(8) == Span(start=5, end=8)
    assert config(splits=(3, 5), stage=0, use_load_balancing=True).span(8) == Span(start=0, end=0)
    assert config(stage=1, use_load_balancing=True, num_blocks=2).span(8) is None


def test_paths_keep_their_tilde_until_the_server_reads_them() -> None:
    text = json.dumps({"model": "~/models/m", "stage": 0})
    assert StageConfig.model_validate_json(text).model == Path("~/models/m")


def test_the_flags_of_the_guides_keep_their_names() -> None:
    flags = {
        *("model", "splits", "stage", "use_load_balancing", "num_blocks", "total_blocks"),
        *("dht_port", "rpc_port", "public_ip", "public_dht_port", "public_rpc_port"),
        *("dht_initial_peers", "balance_quality", "mean_balance_check_period", "prompt"),
    }
    assert flags <= set(StageConfig.model_fields)
    assert all(field.description for field in StageConfig.model_fields.values())
