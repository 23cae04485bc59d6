"""The disk is full while models serve: what is asked is answered, whatever cannot be written.

Weights, scratch folder and log are all on one small file system, as on a node without a byte left.
"""

import json
import pathlib
import signal
from collections.abc import Callable
from typing import Any, Protocol

import httpx2
import models
import pytest
from staged import COMMIT, lay_down

ENGINES: dict[str, Callable[[], pathlib.Path] | None] = {
    "Mock": None,
    "Transformers": lambda: models.made("qwen", models.make_qwen),
    "OpenVINO": models.qwen_gguf,
}
KEY = {"X-API-Key": "right"}
BODY = {"patient_mrn": "MRN-001", "query": "What are my current medications?"}
GENERATION = {"maxNewTokens": 8, "maxThinkingTokens": 8}
PAGE = 4096


class Runtime(Protocol):
    """A process of conftest.py."""

    process: Any
    public: str
    management: str
    log: pathlib.Path

    def said(self) -> str: ...


def fill(volume: pathlib.Path) -> pathlib.Path:
    """Take every byte that is left; return what has them."""
    path = volume / "somebody-elses"
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, PAGE):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    with pytest.raises(OSError, match="No space left"):
        (volume / "one-more").write_bytes(b"x")
    return path


def ask(runtime: Runtime) -> int:
    return httpx2.post(f"{runtime.public}/triage", json=BODY, headers=KEY, timeout=60).status_code


def is_well(runtime: Runtime) -> bool:
    """Say whether probes, scraper and operator have nothing to complain of."""
    at = runtime.management
    answers = [httpx2.get(f"{at}/{page}", timeout=60) for page in ("livez", "readyz", "metrics")]
    answers.append(httpx2.post(f"{at}/verify", timeout=60))
    return {answer.status_code for answer in answers} == {200}


def completed(runtime: Runtime) -> int:
    return runtime.said().count('"request completed"')


@pytest.mark.fault("C5")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_disk_stops_no_answer_and_the_log_goes_on_when_there_is_room(
    volume: pathlib.Path, start: Callable[..., Runtime], pod_config: dict[str, Any], engine: str
) -> None:
    config = pod_config | {"engine": engine, "generation": GENERATION, "threads": 1}
    if (make := ENGINES[engine]) is not None:
        folder = lay_down(make(), volume / COMMIT)
        config |= {"mode": "qwen", "modelID": models.QWEN, "commit": COMMIT}
        config |= {"modelDir": str(folder)}
    runtime = start(
        log=volume / "log",
        TMPDIR=str(volume),
        HOME=str(volume),
        CHATMODEL_CONFIG=json.dumps(config),
    )
    fillers = fill(volume)
    before, asked = completed(runtime), 0
    while completed(runtime) - before > asked - 3:  # until three lines found no room
        assert ask(runtime) == 200
        asked += 1
        assert asked < 100, "the disk was not full"
    assert is_well(runtime)
    fillers.unlink()
    before = completed(runtime)
    assert ask(runtime) == 200
    assert completed(runtime) > before
    fill(volume)
    runtime.process.send_signal(signal.SIGTERM)
    assert runtime.process.wait(20) == 0
