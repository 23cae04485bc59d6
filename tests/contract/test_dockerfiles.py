"""What the Dockerfiles promise: stages that exist, extras that exist, no root, nothing to write."""

import dataclasses
import json
import pathlib
import re
import shlex
import tomllib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FILES = ("Dockerfile.operator", "Dockerfile.runtime")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]


@dataclasses.dataclass
class Stage:
    """One FROM and what follows: (INSTRUCTION, its text)."""

    name: str
    base: str
    steps: list[tuple[str, str]]

    def texts(self, instruction: str) -> list[str]:
        return [text for word, text in self.steps if word == instruction]

    def environment(self) -> dict[str, str]:
        words = [word for text in self.texts("ENV") for word in shlex.split(text)]
        return dict(word.split("=", 1) for word in words)


def read_stages(text: str) -> list[Stage]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(name, base, []))
        elif stages:
            stages[-1].steps.append((word, rest))
    return stages


def read(name: str) -> list[Stage]:
    return read_stages((ROOT / name).read_text())


def lost_stages(stages: list[Stage]) -> list[str]:
    """Return what is built upon or copied from without having been built before."""
    known, lost = {"${BASE}"}, []
    for stage in stages:
        copied = re.findall(r"--from=(\S+)", " ".join(stage.texts("COPY")))
        lost += [name for name in (stage.base, *copied) if name not in known]
        known.add(stage.name)
    return lost


def installs(stages: list[Stage]) -> Iterator[tuple[str, set[str]]]:
    """Yield the environment and the extras of each `pip install` of this project."""
    for text in (text for stage in stages for text in stage.texts("RUN")):
        for folder, extras in re.findall(r"(\S+)/bin/pip install [^&]*\"\.\[([\w,]+)\]\"", text):
            yield folder, set(extras.split(","))


def served() -> list[Stage]:
    stages = {stage.name: stage for stage in read("Dockerfile.runtime")}
    return [stages[name] for name in ("mock", "cpu", "cuda")]


@pytest.mark.parametrize("name", FILES)
def test_every_stage_that_is_used_was_built_before(name: str) -> None:
    assert lost_stages(read(name)) == []


def test_a_planted_stage_that_is_not_there_is_found() -> None:
    text = "FROM ${BASE} AS a\nFROM b AS c\nCOPY --from=a /x \\\n /y\nCOPY --from=d /x /y\n"
    assert lost_stages(read_stages(text)) == ["b", "d"]


@pytest.mark.parametrize("name", FILES)
def test_every_extra_that_is_installed_is_one_of_the_project(name: str) -> None:
    found = list(installs(read(name)))
    assert found
    assert [extras - set(EXTRAS) for _, extras in found if extras - set(EXTRAS)] == []


@pytest.mark.parametrize("stage", served(), ids=lambda stage: stage.name)
def test_a_runtime_runs_as_nobody_and_writes_to_tmp_alone(stage: Stage) -> None:
    assert stage.texts("USER")[-1] == "10001:10001"
    assert stage.texts("WORKDIR")[-1] == "/tmp"
    env = stage.environment()
    assert env["PYTHONDONTWRITEBYTECODE"] == "1"
    assert all(env[name].startswith("/tmp/") for name in env if name.endswith("_HOME"))
    assert json.loads(stage.texts("ENTRYPOINT")[0])[1:] == ["-m", "chatmodel_runtime"]
    assert stage.texts("CMD") == ['["serve"]']


def test_every_image_that_serves_can_be_traced() -> None:
    ours = [extras for folder, extras in installs(read("Dockerfile.runtime")) if "venv" in folder]
    assert len(ours) == 3 and all({"runtime", "otel"} <= extras for extras in ours)


def test_vllm_is_a_program_of_its_own_and_found_by_its_name() -> None:
    found = list(installs(read("Dockerfile.runtime")))
    assert found.count(("/opt/vllm", {"vllm"})) == 1
    assert not any("vllm" in extras for folder, extras in found if folder != "/opt/vllm")
    (cuda,) = (stage for stage in served() if stage.name == "cuda")
    assert "/opt/vllm/bin" in cuda.environment()["PATH"].split(":")
    assert any(text.endswith("/opt/vllm /opt/vllm") for text in cuda.texts("COPY"))
    pinned = [line for extra in EXTRAS.values() for line in extra if line.startswith("vllm")]
    assert pinned == EXTRAS["vllm"] and "==" in pinned[0]


def test_one_version_of_transformers_makes_tokens_in_every_image() -> None:
    found = [
        line for extra in ("torch", "tokenizer") for line in EXTRAS[extra] if "transformers" in line
    ]
    assert len(found) == 2 and len(set(found)) == 1
