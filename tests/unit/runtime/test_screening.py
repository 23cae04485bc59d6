"""Which files are taken, which words refused, and the bytes of a token."""

import json
from typing import Any

import pytest

from chatmodel_runtime import screening
from chatmodel_runtime.errors import BadModel

PLAIN = ["config.json", "model.safetensors"]


def test_configuration_comes_before_weights() -> None:
    names = ["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors", "config.json"]
    names += ["tokenizer.json", "chat_template.jinja", "model.safetensors.index.json"]
    chosen = screening.choose_files(names)
    assert sorted(chosen) == sorted(names)
    assert [screening.is_config(name) for name in chosen] == [True] * 4 + [False] * 2
    assert chosen[-2:] == sorted(chosen[-2:])


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "model.pkl",
        "modeling_evil.py",
        "lib.so",
        "weights.zip",
        "README.md",
        "onnx/model.safetensors",
        "../model.safetensors",
        "/etc/model.safetensors",
        "..\\config.json",
        "sub/config.json",
        "adapter_model.safetensors",
        "COMPLETE",
        "manifest.json",
        "Model.safetensors",
    ],
)
def test_what_is_not_on_the_list_is_not_fetched(name: str) -> None:
    assert screening.choose_files([*PLAIN, name]) == PLAIN


def test_a_weights_name_with_a_line_break_is_not_fetched() -> None:
    assert screening.choose_files([*PLAIN, "model.safetensors\n"]) == PLAIN


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        pytest.param(["config.json", "pytorch_model.bin"], "UnsafeModelContent", id="pickle only"),
        pytest.param([], "UnsafeModelContent", id="no files"),
        pytest.param(["model.safetensors"], "EngineUnsupported", id="no configuration"),
        pytest.param(
            [*PLAIN, *(f"x{i}" for i in range(10_001))], "UnsafeModelContent", id="too many files"
        ),
    ],
)
def test_a_model_that_cannot_be_taken_is_refused(names: list[str], reason: str) -> None:
    with pytest.raises(BadModel) as caught:
        screening.choose_files(names)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"auto_map": {"AutoModel": "evil.Evil"}}, id="auto_map"),
        pytest.param({"auto_map": None}, id="auto_map, even when empty"),
        pytest.param({"trust_remote_code": False}, id="trust_remote_code, whatever its value"),
        pytest.param({"_attn_implementation_internal": "x/y"}, id="CVE-2026-4372"),
        pytest.param({"text_config": {"auto_map": {}}}, id="in a part"),
        pytest.param({"a": [[{"custom_pipelines": {}}]]}, id="in a list of lists"),
        pytest.param([{"auto_map": {}}], id="in a list at the top"),
    ],
)
def test_a_key_that_asks_for_code_is_refused(body: Any) -> None:
    with pytest.raises(BadModel, match="asks for code") as caught:
        screening.screen("config.json", body)
    assert caught.value.reason == "UnsafeModelContent"


def test_an_ordinary_configuration_is_taken() -> None:
    body = {"architectures": ["Qwen3ForCausalLM"], "rope_scaling": None, "layers": [1, {"a": 2}]}
    screening.screen("config.json", json.loads(json.dumps(body)))


@pytest.mark.parametrize(
    ("config", "size"),
    [
        pytest.param(
            {
                "num_hidden_layers": 36,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "hidden_size": 2560,
            },
            2 * 2 * 36 * 8 * 128,
            id="the shape of Qwen3-4B",
        ),
        pytest.param(
            {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 96},
            2 * 2 * 2 * 4 * 24,
            id="without grouped heads and head size",
        ),
        pytest.param({}, None, id="no shape"),
        pytest.param(
            {"num_hidden_layers": 2, "num_attention_heads": 0, "hidden_size": 9},
            None,
            id="no heads",
        ),
        pytest.param(
            {"num_hidden_layers": "x", "num_attention_heads": 4, "hidden_size": 96},
            None,
            id="words for numbers",
        ),
    ],
)
def test_the_bytes_of_a_token_follow_from_the_shape(
    config: dict[str, Any], size: int | None
) -> None:
    assert screening.kv_bytes_per_token(config) == size
