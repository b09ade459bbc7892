import json

import pytest
from pydantic import ValidationError

from runtime.client.request import GenerationRequest


def read(**fields: object) -> GenerationRequest:
    return GenerationRequest.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "give either prompts or messages"),
        ({"prompts": ["a"], "messages": [{"role": "user", "content": "b"}]}, "give either"),
        ({"prompts": ["a", ""]}, "a prompt is empty"),
        ({"prompts": ["a"], "temperature": -1}, "temperature"),
        ({"prompts": ["a"], "top_p": 0}, "top_p"),
        ({"prompts": ["a"], "top_k": -1}, "top_k"),
        ({"prompts": ["a"], "seed": -1}, "seed"),
        ({"prompts": ["a"], "max_new_tokens": 0}, "max_new_tokens"),
        ({"prompts": ["a"], "stop": [""]}, "stop"),
        ({"prompts": ["a"], "stop": ["x"] * 17}, "stop"),
        ({"prompts": ["a"], "tempertaure": 1}, "tempertaure"),
        ({"prompts": ["a"] * 257}, "prompts"),
    ],
)
def test_impossible_requests_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as found:
        read(**fields)
    assert said in str(found.value)


def test_a_request_is_greedy_unless_it_says_otherwise() -> None:
    assert read(prompts=["a"]).temperature == 0
