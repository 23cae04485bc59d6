"""Incidents of the origin that show in what is rendered, built or written (docs/incidents.md)."""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from rendered import EMBEDDED, MOCK, PERSISTENT, QWEN, template

ROOT = pathlib.Path(__file__).parents[2]
SPECS = [
    pytest.param(MOCK, id="mock"),
    pytest.param(QWEN, id="qwen"),
    pytest.param(PERSISTENT, id="on a claim"),
    pytest.param(EMBEDDED, id="embedded"),
]
SKIPPED = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", "models"}
STATE = re.compile(r"tfplan|\.tfstate|\.tfvars$|\.pem$|\.key$|(^|/)\.env$|kubeconfig|id_rsa", re.I)
TOKEN = re.compile(rb"hf_[A-Za-z0-9]{34,}|PRIVATE KEY-----\s[A-Za-z0-9+/=\s]{200,}")
TOKEN_ARGUMENT = re.compile(
    r"^\s*(?:ARG|ENV)\s+\S*(?:TOKEN|SECRET|PASSWORD|API_KEY)\S*", re.I | re.M
)
FAST = re.compile(r"\b(?:fast|faster|speed|quick|quicker|slow|slower|latency)\b", re.I)


def container(spec: dict[str, Any]) -> dict[str, Any]:
    (found,) = template(spec)["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def patience(probe: dict[str, Any]) -> int:
    """Return the seconds after which a probe that fails is acted on."""
    seconds = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert isinstance(seconds, int)
    return seconds


@pytest.mark.parametrize("spec", SPECS)
def test_a_dead_pod_is_noticed_within_a_minute(spec: dict[str, Any]) -> None:
    assert patience(container(spec)["livenessProbe"]) <= 60
    assert patience(container(spec)["readinessProbe"]) <= 60


@pytest.mark.parametrize("spec", SPECS)
def test_starting_may_take_longer_than_dying_unnoticed(spec: dict[str, Any]) -> None:
    probes = container(spec)
    assert patience(probes["startupProbe"]) > patience(probes["livenessProbe"])
    assert probes["startupProbe"]["httpGet"]["path"] == "/livez", "loading is no reason to die"
    assert probes["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_no_token_is_an_argument_of_a_build() -> None:
    for path in ROOT.glob("Dockerfile*"):
        assert not TOKEN_ARGUMENT.search(path.read_text()), path.name
    assert "--mount=type=secret" in (ROOT / "Dockerfile.runtime").read_text()


@pytest.mark.parametrize("line", ["ARG HUGGINGFACE_TOKEN", "  env HF_TOKEN=x", "ARG API_KEY=1"])
def test_a_planted_token_of_a_build_is_found(line: str) -> None:
    assert TOKEN_ARGUMENT.search(f"FROM x\n{line}\n")


def advice(text: str) -> list[str]:
    return [line for line in text.splitlines() if "temperature" in line and FAST.search(line)]


def test_no_page_advises_a_temperature_for_speed() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    assert len(pages) > 10
    assert [
        line for page in pages if page.name != "incidents.md" for line in advice(page.read_text())
    ] == []


def test_planted_advice_is_found() -> None:
    assert advice("set a lower temperature for faster generation")


def tree() -> Iterator[pathlib.Path]:
    for path in ROOT.rglob("*"):
        if path.is_file() and not SKIPPED & set(path.relative_to(ROOT).parts):
            yield path


def test_no_state_and_no_secret_lies_in_the_tree() -> None:
    paths = list(tree())
    assert len(paths) > 200
    for path in paths:
        where = path.relative_to(ROOT).as_posix()
        assert where == ".env" or not STATE.search(where), where
        assert where == ".env" or not TOKEN.search(path.read_bytes()), where


def test_a_planted_secret_is_found() -> None:
    assert TOKEN.search(b"token: hf_" + b"aB3" * 12)
    assert TOKEN.search(b"-----BEGIN RSA PRIVATE KEY-----\n" + b"MIIEpAIBAAKCAQEA7\n" * 20)


@pytest.mark.parametrize("name", ["infra/tfplan", "a.tfstate.backup", "tls.key", "x/kubeconfig"])
def test_planted_state_is_found(name: str) -> None:
    assert STATE.search(name)
