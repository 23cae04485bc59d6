"""Which files of a repository a quantization picks: by name, one alone, or a refusal that helps."""

import json
import pathlib
from typing import Any, Protocol, get_args

import pytest
from small_models import COMMIT, CONFIGS, gguf, safetensors

from chatmodel_runtime import formats, hub, model_manager, pruning, screening, settings
from chatmodel_runtime.errors import BadModel, Failure
from chatmodel_runtime.progress import Progress

IR = ["config.json", *formats.IR]
PLAIN = ["config.json", "model.safetensors"]
SHARDS = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
MANY = ["m-Q4_K_M.gguf", "m-Q4_0.gguf", "m.q8_0.gguf", "m-Q2_K.gguf", "m-IQ4_XS.gguf"]
EVERY_WORD = "F16, Q8_0, Q4_K_M, Q4_0, Q4_1"


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    root: pathlib.Path
    endpoint: str

    def publish(self, model_id: str, files: dict[str, bytes], **refs: Any) -> None: ...
    def asked(self, part: str) -> list[dict[str, Any]]: ...


def taken(names: list[str], quantization: str, repository: str = "model") -> list[str]:
    wish = formats.Wish(quantization, repository)
    chosen = screening.choose(names, wish)
    assert chosen == screening.choose(names[::-1], wish)
    return [name for name in chosen.names if not formats.is_config(name)]


def refused(names: list[str], quantization: str, repository: str = "model") -> str:
    with pytest.raises(BadModel) as caught:
        taken(names, quantization, repository)
    assert caught.value.reason == "EngineUnsupported"
    return caught.value.message


@pytest.mark.parametrize(
    ("quantization", "names", "chosen"),
    [
        pytest.param("Int4", MANY, "m-Q4_K_M.gguf", id="the first word of 4 bits"),
        pytest.param("Int4", MANY[1:], "m-Q4_0.gguf", id="the next word of 4 bits"),
        pytest.param("Int4", ["m-Q4_K_S.gguf", "m.q4_1.gguf"], "m.q4_1.gguf", id="in small"),
        pytest.param(
            "Int4", ["a-Q4_0.gguf", "b_Q4_0.gguf", "a-Q4_1.gguf"], "a-Q4_1.gguf", id="two of a word"
        ),
        pytest.param("Int4", [*PLAIN, *MANY], "m-Q4_K_M.gguf", id="beside safetensors"),
        pytest.param("Int4", ["model_q4_0.gguf"], "model_q4_0.gguf", id="the only file, named so"),
        pytest.param("Int4", ["mmproj-Q4_0.gguf", "m-Q4_0.gguf"], "m-Q4_0.gguf", id="a projector"),
        pytest.param(
            "Int4", ["m-Q4_K_M-00001-of-00002.gguf", "m-Q4_0.gguf"], "m-Q4_0.gguf", id="parts"
        ),
        pytest.param("Int8", MANY, "m.q8_0.gguf", id="8 bits"),
        pytest.param("None", [*PLAIN, *MANY], "model.safetensors", id="safetensors"),
        pytest.param("None", [*MANY, "m-bf16.gguf", "m.F16.gguf"], "m.F16.gguf", id="16 bits"),
        pytest.param("None", ["m-Q2_K.gguf"], "m-Q2_K.gguf", id="the only file, of any type"),
        pytest.param("None", ["m-fp16.gguf", "m-q8_0.gguf"], "m-fp16.gguf", id="as Qwen names it"),
        pytest.param("None", ["m.gguf", "mmproj-m-F16.gguf"], "m.gguf", id="the only whole file"),
    ],
)
def test_one_gguf_file_is_taken_by_its_name(
    quantization: str, names: list[str], chosen: str
) -> None:
    assert taken(names, quantization) == [chosen]


@pytest.mark.parametrize(
    ("quantization", "repository", "names"),
    [
        pytest.param("Int4", "Phi-4-mini-int4-ov", IR, id="an IR of 4 bits"),
        pytest.param("Int8", "Phi-4-mini-int8-ov", IR, id="an IR of 8 bits"),
        pytest.param("Int4", "Qwen3-8B-GPTQ-Int4", PLAIN, id="safetensors of 4 bits"),
        pytest.param("None", "Phi-4-mini-int4-ov", IR, id="an IR, as it is"),
        pytest.param("None", "Qwen3-8B-GPTQ-Int4", PLAIN, id="safetensors, as they are"),
    ],
)
def test_of_an_ir_and_of_safetensors_the_repository_is_named(
    quantization: str, repository: str, names: list[str]
) -> None:
    assert set(taken(names, quantization, repository)) == set(names) - {"config.json"}


@pytest.mark.parametrize(
    ("quantization", "repository", "names", "says"),
    [
        pytest.param(
            "None",
            "model",
            MANY,
            "the model has 5 .gguf files, and not just one for None (F16): they are"
            " named IQ4_XS, Q2_K, Q4_0, Q4_K_M, Q8_0; set spec.quantization to Int8 or Int4",
            id="several, all of them quantized",
        ),
        pytest.param(
            "Int8",
            "model",
            [*PLAIN, "m-Q4_0.gguf"],
            "its safetensors files are Int8 only in a repository that is named so, as name-Int8;"
            " the model has 1 .gguf files, and not just one for Int8 (Q8_0): they are named Q4_0;"
            " set spec.quantization to None or Int4",
            id="another quantization than there is",
        ),
        pytest.param(
            "Int4",
            "m-int8-ov",
            IR,
            "its openvino files are Int4 only in a repository that is named so, as name-Int4;"
            " set spec.quantization to None or Int8",
            id="an IR that says otherwise",
        ),
        pytest.param(
            "Int4",
            "int40-sprint4",
            PLAIN,
            "its safetensors files are Int4 only in a repository that is named so, as name-Int4;"
            " set spec.quantization to None",
            id="a word that is part of another",
        ),
        pytest.param(
            "Int4",
            "model",
            ["m-IQ4_XS.gguf", "m-BF16.gguf", "m-Q4_K_S.gguf"],
            "the model has 3 .gguf files, and not just one for Int4 (Q4_K_M, Q4_0, Q4_1):"
            f" they are named BF16, IQ4_XS, Q4_K_S; publish one alone, or one named {EVERY_WORD}",
            id="types that no engine loads",
        ),
        pytest.param(
            "None",
            "model",
            ["a-Q4_0.gguf", "b-Q4_0.gguf", "c.gguf"],
            "the model has 3 .gguf files, and not just one for None (F16): they are"
            f" named 2 x Q4_0; publish one alone, or one named {EVERY_WORD}",
            id="two of a word",
        ),
        pytest.param(
            "None",
            "model",
            ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"],
            "the model has 2 .gguf files, and not just one for None (F16): they are"
            f" named otherwise; publish one alone, or one named {EVERY_WORD}",
            id="parts alone",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_what_is_and_what_helps(
    quantization: str, repository: str, names: list[str], says: str
) -> None:
    assert refused(names, quantization, repository) == says


def test_a_refusal_is_not_longer_than_a_person_reads() -> None:
    words = [f"Q{i}_{j}" for i in range(1, 9) for j in range(100)]
    message = refused([f"m-{word}_ABCD_ABCD.gguf" for word in words], "Int4")
    assert len(message) < 500 and ", ...;" in message


def test_every_quantization_of_the_settings_has_its_words() -> None:
    assert set(formats.QUANTIZATIONS) == set(get_args(settings.Quantization))


def test_a_choice_is_reported_short_and_taken_again_whole() -> None:
    names = ["config.json", formats.INDEX, *SHARDS]
    choice = screening.choose([*names, "README.md"])
    assert choice.report == ["config.json", formats.INDEX, SHARDS[0]]
    assert screening.take([*names, "vocab.json"], choice.report) == choice.names


def test_the_longest_report_is_a_termination_message() -> None:
    shards = [f"model-{i + 1:05}-of-09999.safetensors" for i in range(9999)]
    names = {*formats.CONFIGS, *formats.TEXTS}
    for weights in ([formats.INDEX, *shards], [*formats.IR], ["g" * 250 + ".gguf"]):
        choice = formats.choose({*names, *weights}, formats.Wish())
        assert len(json.dumps(choice.report)) < 1000
        assert len(choice.report) <= 32


@pytest.mark.parametrize("name", ["evil.py", "pytorch_model.bin", "../config.json", "model.xml"])
def test_what_is_never_taken_is_not_taken_because_it_was_chosen(name: str) -> None:
    with pytest.raises(Failure, match="UnsafeModelContent"):
        screening.take([*PLAIN, name], [*PLAIN, name])


def test_a_chosen_file_that_the_hub_lists_no_more_is_asked_for_later() -> None:
    for there in ([], ["config.json"], ["config.json", "Model.safetensors"]):
        with pytest.raises(Failure, match="HubUnavailable"):
            screening.take(there, PLAIN)


def test_what_was_chosen_is_staged_to_the_file_and_nothing_that_came_later(
    mirror: Mirror, tmp_path: pathlib.Path
) -> None:
    offered = {"m-Q4_0.gguf": gguf(500_000), "m-Q8_0.gguf": gguf(900_000)}
    mirror.publish("demo/many", {**offered, "README.md": b"words"})
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    found = model_manager.inspect(client, "demo/many", "main", "Int4")
    size = len(offered["m-Q4_0.gguf"])
    assert (found["files"], found["formats"]) == (["m-Q4_0.gguf"], ["gguf"])
    assert found["totalBytes"] == found["weightBytes"] == size

    # As a newer runtime would choose: its favourite, and configurations that count first.
    later = {**CONFIGS, "m-Q4_K_M.gguf": gguf(), "model.safetensors": safetensors()}
    for name, data in later.items():
        (mirror.root / "demo/many" / COMMIT / name).write_bytes(data)
    asked = {"quantization": "Int4", "files": found["files"]}
    staged = model_manager.stage(client, "demo/many", COMMIT, tmp_path, Progress(COMMIT), **asked)
    assert {path.name for path in staged.iterdir()} == {"m-Q4_0.gguf", "COMPLETE", "manifest.json"}
    assert model_manager.check(staged) == size
    fetched = {request["path"].rpartition("/")[2] for request in mirror.asked("/resolve/")}
    assert fetched == {"m-Q4_0.gguf"}


def test_two_quantizations_of_a_commit_lie_beside_each_other_and_go_alone(
    mirror: Mirror, tmp_path: pathlib.Path
) -> None:
    offered = {"m-F16.gguf": gguf(500_000), "m-Q8_0.gguf": gguf(900_000)}
    mirror.publish("demo/many", offered)
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))

    def stage(quantization: str) -> pathlib.Path:
        progress = Progress(COMMIT)
        return model_manager.stage(
            client, "demo/many", COMMIT, tmp_path, progress, quantization=quantization
        )

    half = tmp_path / "demo--many" / f".{COMMIT}-Int8.00000000.staging"
    half.mkdir(parents=True)
    (half / "m-Q8_0.gguf.part").write_bytes(offered["m-Q8_0.gguf"][:1000])
    whole = stage("None")
    assert half.exists()  # a try of the other one is nobody's here
    eight = stage("Int8")
    assert (whole.name, eight.name) == (COMMIT, f"{COMMIT}-Int8")
    assert not half.exists()
    assert pruning.prune(tmp_path, {f"demo--many/{whole.name}"}) == [f"demo--many/{eight.name}"]
    assert model_manager.check(whole) == len(offered["m-F16.gguf"])
