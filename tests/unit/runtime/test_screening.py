"""Which files are taken, which words refused, and the bytes of a token."""

import json
from typing import Any

import pytest

from chatmodel_runtime import configs, formats, screening
from chatmodel_runtime.errors import BadModel

PLAIN = ["config.json", "model.safetensors"]
SHARDS = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
SHARDED = ["config.json", formats.INDEX, *SHARDS]
IR = ["config.json", *formats.IR]


def taken(*names: str) -> list[str]:
    return list(screening.choose(names).names)


def refused(*names: str) -> tuple[str, str]:
    with pytest.raises(BadModel) as caught:
        screening.choose(names)
    return caught.value.reason, caught.value.message


def test_configuration_comes_before_weights() -> None:
    names = [*reversed(SHARDS), "tokenizer.json", "chat_template.jinja", *SHARDED[:2]]
    chosen = taken(*names)
    assert sorted(chosen) == sorted(names)
    assert [formats.is_config(name) for name in chosen] == [True] * 4 + [False] * 2
    assert chosen[-2:] == SHARDS


@pytest.mark.parametrize(
    ("names", "kind", "weights"),
    [
        pytest.param([*PLAIN, *IR, "a.gguf"], "safetensors", PLAIN[1:], id="all of them"),
        pytest.param([*SHARDED, *PLAIN], "safetensors", PLAIN[1:], id="in one and in many"),
        pytest.param([*IR, "a.gguf"], "openvino", sorted(formats.IR), id="an IR and a GGUF"),
        pytest.param(["a.gguf", "README.md"], "gguf", ["a.gguf"], id="a GGUF alone"),
        pytest.param(["model.safetensors", "a.gguf"], "gguf", ["a.gguf"], id="no config.json"),
        pytest.param([*SHARDED[:3], "a.gguf"], "gguf", ["a.gguf"], id="a shard is missing"),
        pytest.param([*IR[:-1], "a.gguf"], "gguf", ["a.gguf"], id="half an IR"),
    ],
)
def test_one_format_is_taken_in_a_fixed_order(
    names: list[str], kind: str, weights: list[str]
) -> None:
    names = sorted(set(names))
    choice = screening.choose(names)
    assert choice.format == kind
    assert [name for name in choice.names if not formats.is_config(name)] == weights
    assert choice == screening.choose(names[::-1])


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "model.pkl",
        "modeling_evil.py",
        "custom_generate/generate.py",
        "lib.so",
        "weights.zip",
        "README.md",
        "onnx/model.safetensors",
        "sub/config.json",
        "adapter_model.safetensors",
        "openvino_model.xml",
        "openvino_vision_embeddings_model.xml",
        "model.safetensors.index.json",
        "COMPLETE",
        "manifest.json",
        "a name with spaces, and ümlauts.txt",
    ],
)
def test_what_is_not_on_the_list_is_not_fetched(name: str) -> None:
    assert taken(*PLAIN, name) == PLAIN


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("../model.safetensors", id="up"),
        pytest.param("a/../../config.json", id="up, from inside"),
        pytest.param("/etc/passwd", id="absolute"),
        pytest.param("..\\config.json", id="a backslash"),
        pytest.param("C:\\config.json", id="a drive"),
        pytest.param("a//b", id="nothing between slashes"),
        pytest.param("./config.json", id="here"),
        pytest.param("model.safetensors\n", id="a line break"),
        pytest.param("config.json\x00.txt", id="an end inside"),
        pytest.param("model\u202esrotsnetefas.txt", id="turned around"),
        pytest.param("\ud800.json", id="half a character"),
        pytest.param("x" * 256, id="longer than a disk takes"),
        pytest.param("/".join(["x" * 99] * 11), id="a long way"),
        pytest.param("", id="no name"),
        pytest.param("Model.safetensors", id="the same in other letters"),
        pytest.param("CONFIG.JSON", id="the same in capitals"),
        pytest.param("config.json", id="the same again"),
    ],
)
def test_a_name_that_plays_tricks_is_unsafe(name: str) -> None:
    reason, message = refused(*PLAIN, name)
    assert reason == "UnsafeModelContent"
    assert message.isascii() and message.isprintable() and len(message) < 200


@pytest.mark.parametrize(
    ("names", "reason", "says"),
    [
        pytest.param(["config.json", "pytorch_model.bin"], "UnsafeModelContent", "no weights"),
        pytest.param([], "UnsafeModelContent", "no weights"),
        pytest.param(["model.safetensors"], "EngineUnsupported", "no config.json"),
        pytest.param(SHARDED[:3], "EngineUnsupported", "of 2 safetensors files 1 are there"),
        pytest.param(["config.json", *SHARDS], "EngineUnsupported", "no model.safetensors.index"),
        pytest.param(IR[:-1], "EngineUnsupported", "openvino_detokenizer.bin are missing"),
        pytest.param([*PLAIN, *map(str, range(9999))], "UnsafeModelContent", "lists 10001 files"),
    ],
)
def test_a_model_that_cannot_be_taken_is_refused(names: list[str], reason: str, says: str) -> None:
    found = refused(*names)
    assert found[0] == reason and says in found[1]


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
        pytest.param({"Auto_Map": {}}, id="in other letters"),
        pytest.param({"custom_generate": "x/y"}, id="a way to generate"),
        pytest.param({"attn_implementation": "owner/kernel"}, id="a kernel of a repository"),
        pytest.param({"_attn_implementation": {"": "owner/k"}}, id="a kernel for one part"),
    ],
)
def test_a_key_that_asks_for_code_is_refused(body: Any) -> None:
    with pytest.raises(BadModel, match="asks for code") as caught:
        screening.screen("config.json", body)
    assert caught.value.reason == "UnsafeModelContent"


def test_an_ordinary_configuration_is_taken() -> None:
    body = {"architectures": ["Qwen3ForCausalLM"], "rope_scaling": None, "layers": [1, {"a": 2}]}
    screening.screen("config.json", body | {"_attn_implementation": "sdpa"})


def test_what_leads_to_other_places_is_dropped_and_the_rest_stays() -> None:
    body = {
        "_name_or_path": "/home/author/model",
        "name_or_path": "org/other",
        "text_config": {"base_model_name_or_path": "org/base", "layers": 2},
        "tokenizer_file": "/etc/passwd",
        "special_tokens_map_file": None,
        "_commit_hash": "x",
        "list": [{"cache_dir": "/tmp"}],
        "model_type": "qwen3",
    }
    kept = {"text_config": {"layers": 2}, "list": [{}], "model_type": "qwen3"}
    assert json.loads(configs.clean("config.json", body) or b"") == kept
    assert configs.clean("config.json", kept) is None
    assert configs.clean("tokenizer.json", body) is None


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        pytest.param("config.json", b"{", "ModelLoadFailed", id="no JSON"),
        pytest.param("config.json", b"\xff{}", "ModelLoadFailed", id="no UTF-8"),
        pytest.param("config.json", b"[]", "ModelLoadFailed", id="no object"),
        pytest.param(
            "config.json", b'{"a": 1, "a": 2}', "UnsafeModelContent", id="one key, two values"
        ),
        pytest.param(
            "config.json",
            b'{"a":' * 33 + b"1" + b"}" * 33,
            "UnsafeModelContent",
            id="nested too deep",
        ),
        pytest.param(
            "config.json", b"[" * 100_000, "UnsafeModelContent", id="nested without an end"
        ),
        pytest.param(
            "config.json", b'{"auto\\u005fmap": {}}', "UnsafeModelContent", id="a key in disguise"
        ),
        pytest.param(
            "tokenizer.json",
            b'{"model": {"vocab": {}, "auto_map": 1}}',
            "UnsafeModelContent",
            id="beside a vocabulary",
        ),
        pytest.param("vocab.json", b'{"a": "x"}', "UnsafeModelContent", id="no vocabulary"),
        pytest.param(
            "chat_template.jinja", b" " * (1 << 21), "UnsafeModelContent", id="too long a template"
        ),
        pytest.param(
            formats.INDEX,
            b'{"weight_map": {"a": "model-00003-of-00003.safetensors"}}',
            "UnsafeModelContent",
            id="an index of other files",
        ),
    ],
)
def test_a_configuration_that_is_none_is_refused(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(BadModel) as caught:
        configs.read(name, data, SHARDED)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("name", "body"),
    [
        pytest.param("tokenizer.json", {"model": {"vocab": {"auto_map": 1}}}, id="in a tokenizer"),
        pytest.param("vocab.json", {"trust_remote_code": 5}, id="in a vocabulary"),
        pytest.param("config.json", {"a": [[{"b": {"c": 1}}]]}, id="nested as usual"),
        pytest.param(formats.INDEX, {"weight_map": {"a": SHARDS[0]}}, id="an index"),
    ],
)
def test_words_of_a_vocabulary_are_no_settings(name: str, body: Any) -> None:
    assert configs.read(name, json.dumps(body).encode(), SHARDED) == body


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
    assert configs.kv_bytes_per_token(config) == size
