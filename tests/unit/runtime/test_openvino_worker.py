"""What the OpenVINO model's process does with requests when room is short; bad files; choices."""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any, Protocol

import gguf
import httpx2
import models
import pytest
from staged import COMMIT, lay_down

from chatmodel_runtime.engines import choosing, openvino_files, openvino_tokenizer
from chatmodel_runtime.engines.openvino import OpenVINOEngine
from chatmodel_runtime.engines.openvino_worker import Worker
from chatmodel_runtime.errors import BadModel

BLOCKS, BLOCK_TOKENS = 8, 32


class Runtime(Protocol):
    """A process of conftest.py."""

    management: str

    def lines(self) -> list[dict[str, Any]]: ...


@pytest.fixture(scope="module")
def worker() -> Worker:
    (file,) = models.qwen_gguf().glob("*.gguf")
    options = {"model": str(file), "threads": 1, "blocks": BLOCKS, "active": 8, "batch": 512}
    return Worker(options | {"ends": []})


def add(worker: Worker, name: int, prompt: int, most: int) -> None:
    asked = {"add": name, "prompt": [10 + name] * prompt, "most": most}
    worker.take(asked | {"temperature": 0, "top_p": 1, "top_k": 0})


def finish(worker: Worker) -> dict[int, tuple[int, str | None]]:
    """Return how many tokens each request got, and why it ended."""
    counts: dict[int, tuple[int, str | None]] = {}
    while worker.has_work():
        for name, tokens, reason in worker.step():
            counts[name] = (counts.get(name, (0, None))[0] + len(tokens), reason)
    return counts


def test_requests_that_do_not_fit_together_take_turns(worker: Worker) -> None:
    for name in range(4):
        add(worker, name, 100, 40)
    assert 4 * (100 + 40) > BLOCKS * BLOCK_TOKENS
    assert finish(worker) == dict.fromkeys(range(4), (40, "length"))


def test_what_was_cancelled_gives_its_room_to_the_next(worker: Worker) -> None:
    add(worker, 0, 230, 20)
    worker.step()
    worker.take({"leave": 0})
    add(worker, 1, 200, 10)
    assert finish(worker) == {1: (10, "length")}


def test_what_was_cancelled_is_gone_after_a_step(worker: Worker) -> None:
    add(worker, 0, 60, 100)
    worker.step()
    worker.take({"leave": 0})
    assert worker.has_work()
    assert worker.step() == []
    assert not worker.has_work()


def test_leaving_what_is_over_does_nothing(worker: Worker) -> None:
    worker.take({"leave": 99})
    assert not worker.has_work()


def test_a_request_larger_than_all_memory_ends_the_process(worker: Worker) -> None:
    add(worker, 0, 300, 1)
    with pytest.raises(MemoryError):
        finish(worker)


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(models.qwen_gguf(), tmp_path / "copy"))


def replace(folder: pathlib.Path, old: bytes, new: bytes) -> None:
    (file,) = folder.glob("*.gguf")
    body = file.read_bytes()
    assert len(old) == len(new) and old in body
    file.write_bytes(body.replace(old, new))


def cut(folder: pathlib.Path) -> None:
    (file,) = folder.glob("*.gguf")
    file.write_bytes(file.read_bytes()[:-1000])


def garbage(folder: pathlib.Path) -> None:
    (file,) = folder.glob("*.gguf")
    file.write_bytes(b"\xff" * 1000)


def stranger(folder: pathlib.Path) -> None:
    replace(folder, b"qwen3", b"nobod")


def one_layer_more(folder: pathlib.Path) -> None:
    (file,) = folder.glob("*.gguf")
    models.make_wrong_gguf(folder, file)


def mute(folder: pathlib.Path) -> None:
    replace(folder, b"tokenizer.chat_template", b"tokenizer.chat_templatx")


def no_number(folder: pathlib.Path) -> None:
    (file,) = folder.glob("*.gguf")
    reader = gguf.GGUFReader(file, "r+")
    (tensor,) = (t for t in reader.tensors if t.name == "output_norm.weight")
    tensor.data[:] = float("nan")


def twins(folder: pathlib.Path) -> None:
    (file,) = folder.glob("*.gguf")
    shutil.copyfile(file, folder / "other.gguf")


def nothing(folder: pathlib.Path) -> None:
    (file,) = folder.glob("*.gguf")
    file.unlink()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (cut, "UnsafeModelContent"),
        (garbage, "UnsafeModelContent"),
        (stranger, "EngineUnsupported"),
        (one_layer_more, "ModelLoadFailed"),
        (mute, "ChatTemplateMissing"),
        (no_number, "ModelLoadFailed"),
        (twins, "EngineUnsupported"),
        (nothing, "EngineUnsupported"),
    ],
)
def test_a_file_that_cannot_be_served_is_refused(
    copy: pathlib.Path, harm: Callable[[pathlib.Path], None], reason: str
) -> None:
    harm(copy)
    engine = OpenVINOEngine(copy, threads=1)
    with pytest.raises(BadModel) as caught:
        engine.load()
    assert caught.value.reason == reason
    assert not engine.is_alive()


def no_layers(folder: pathlib.Path) -> None:
    (folder / "config.json").write_text("{}")


def no_json(folder: pathlib.Path) -> None:
    (folder / "config.json").write_text("{")


def no_graph(folder: pathlib.Path) -> None:
    (folder / "openvino_model.xml").write_text("<net/>")


def no_weights(folder: pathlib.Path) -> None:
    (folder / "openvino_model.bin").write_bytes(b"")


def no_tokenizer(folder: pathlib.Path) -> None:
    (folder / "openvino_tokenizer.xml").write_text("<net/>")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (no_layers, "EngineUnsupported"),
        (no_json, "ModelLoadFailed"),
        (no_graph, "ModelLoadFailed"),
        (no_weights, "ModelLoadFailed"),
        (no_tokenizer, "ModelLoadFailed"),
    ],
)
def test_an_ir_that_cannot_be_served_is_refused(
    tmp_path: pathlib.Path, harm: Callable[[pathlib.Path], None], reason: str
) -> None:
    folder = pathlib.Path(shutil.copytree(models.qwen_ir(), tmp_path / "copy"))
    harm(folder)
    with pytest.raises(BadModel) as caught:
        OpenVINOEngine(folder, threads=1).load()
    assert caught.value.reason == reason


def test_an_ir_and_a_gguf_of_one_model_take_the_same_memory_a_token() -> None:
    ir, one = openvino_files.find(models.qwen_ir()), openvino_files.find(models.qwen_gguf())
    assert (ir.kv_bytes, ir.context_tokens) == (one.kv_bytes, one.context_tokens)
    assert ir.kv_bytes == 2 * 2 * 2 * 2 * 24  # keys and values, bytes, layers, heads, size
    assert set(one.ends) <= set(ir.ends) and one.ends


def test_words_of_sentencepiece_are_read_as_text() -> None:
    pieces = openvino_tokenizer._pieces({b"<0x0A>": 0, b"\xe2\x96\x81a": 1, b"b": 2, b"<0xE2>": 3})
    assert pieces == {0: b"\n", 1: b" a", 2: b"b", 3: b"\xe2"}


@pytest.mark.parametrize(
    ("name", "gpus", "has_vllm", "engine"),
    [
        ("model.safetensors", 0, False, "Transformers"),
        ("model-00001-of-00002.safetensors", 0, False, "Transformers"),
        ("openvino_model.xml", 0, False, "OpenVINO"),
        ("some.gguf", 0, False, "OpenVINO"),
        ("model.safetensors", 1, True, "VLLM"),
        ("model.safetensors", 1, False, "Transformers"),
        ("model.safetensors", 0, True, "Transformers"),
        ("some.gguf", 1, True, "OpenVINO"),
    ],
)
def test_the_engine_follows_from_files_and_gpus(
    tmp_path: pathlib.Path, name: str, gpus: int, has_vllm: bool, engine: str
) -> None:
    (tmp_path / name).touch()
    chosen, why = choosing.choose_engine(tmp_path, gpus=gpus, has_vllm=has_vllm)
    assert (chosen, engine.lower() in why.lower()) == (engine, True)


def test_a_server_alone_says_which_engine_it_chose_and_why(
    start: Callable[..., Runtime], tmp_path: pathlib.Path
) -> None:
    root = tmp_path / "models" / models.QWEN.replace("/", "--")
    root.mkdir(parents=True)
    lay_down(models.qwen_gguf(), root / COMMIT)
    runtime = start(LLM_MODE="qwen", MODEL_CACHE_DIR=str(tmp_path / "models"))
    (line,) = (line for line in runtime.lines() if line["message"] == "engine chosen")
    assert line["engine"] == "OpenVINO"
    assert line["why"] == "the model is a GGUF file, which OpenVINO loads"
    verified = httpx2.post(f"{runtime.management}/verify", timeout=60).json()
    assert (verified["ok"], verified["engine"], verified["commit"]) == (True, "OpenVINO", COMMIT)


def test_no_engine_is_chosen_for_what_none_loads(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(BadModel) as caught:
        choosing.choose_engine(tmp_path, gpus=1, has_vllm=True)
    assert caught.value.reason == "EngineUnsupported"
