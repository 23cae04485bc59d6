"""What makes two specs the same revision, and how a new one is named."""

from typing import Any

import pytest

from chatmodel_operator import revision
from chatmodel_operator.api.chatmodel import QWEN_MODEL_ID, ChatModelSpec
from chatmodel_operator.api.chatmodelrevision import Source

SMALL = "HuggingFaceTB/SmolLM2-135M-Instruct"
TOKEN = {"name": "hub", "key": "HF_TOKEN"}
COMMIT = "a" * 40


def source(mode: str, **spec: Any) -> Source:
    return revision.source_of(ChatModelSpec.model_validate({"mode": mode} | spec))


def identity(mode: str, **model: Any) -> tuple[str, str | None, str | None]:
    found = source(mode, model=model)
    return found.mode, found.model_id, found.model_revision


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param(
            source("qwen"), source("Qwen3-4B-Thinking-2507"), id="qwen and its longer name"
        ),
        pytest.param(
            source("qwen"), source("qwen", model={"id": QWEN_MODEL_ID}), id="qwen with its own id"
        ),
        pytest.param(
            source("qwen"),
            source("qwen", model={"id": SMALL, "revision": "v2"}),
            id="qwen with another model's id and revision",
        ),
        pytest.param(
            source("qwen", model={"revision": COMMIT}),
            source("qwen", model={"id": f"hf://{QWEN_MODEL_ID}", "revision": COMMIT}),
            id="a revision of qwen, with and without its id",
        ),
        pytest.param(
            source("mock"),
            source("mock", model={"id": SMALL, "revision": "v2", "tokenSecretRef": TOKEN}),
            id="mock with and without a model",
        ),
        pytest.param(
            source("huggingface", model={"id": SMALL}),
            source("huggingface", model={"id": f"hf://{SMALL}", "revision": "main"}),
            id="a model with and without hf:// and main",
        ),
        pytest.param(
            source("mock", replicas=1),
            source("mock", replicas=5, rollout={"bakeSeconds": 1, "historyLimit": 2}),
            id="other replicas and another rollout",
        ),
        pytest.param(
            source("mock"),
            source("mock", generation={"topK": 0}, auth={"mode": "ApiKey"}),
            id="defaults that are written out",
        ),
    ],
)
def test_these_are_the_same_revision(left: Source, right: Source) -> None:
    assert left == right
    assert revision.name_of("triage", left, frozenset()) == revision.name_of(
        "triage", right, frozenset()
    )


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(source("mock"), id="another mode"),
        pytest.param(source("huggingface", model={"id": "org/other"}), id="another model"),
        pytest.param(
            source("huggingface", model={"id": SMALL, "revision": "v2"}), id="another revision"
        ),
        pytest.param(
            source("huggingface", model={"id": SMALL, "tokenSecretRef": TOKEN}), id="a token"
        ),
        pytest.param(
            source("huggingface", model={"id": SMALL}, instanceClassName="large"), id="a class"
        ),
        pytest.param(
            source("huggingface", model={"id": SMALL}, generation={"temperature": 0}), id="sampling"
        ),
        pytest.param(
            source("huggingface", model={"id": SMALL}, patientContext={"source": "Demo"}),
            id="patients",
        ),
        pytest.param(
            source("huggingface", model={"id": SMALL}, auth={"mode": "None"}), id="who may ask"
        ),
    ],
)
def test_these_are_another_revision(other: Source) -> None:
    same = source("huggingface", model={"id": SMALL})
    assert other != same
    assert revision.name_of("triage", other, frozenset()) != revision.name_of(
        "triage", same, frozenset()
    )


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(identity("mock", id=SMALL), ("mock", None, None), id="mock has no model"),
        pytest.param(identity("qwen"), ("qwen", QWEN_MODEL_ID, "main"), id="qwen has its own"),
        pytest.param(
            identity("qwen", id=SMALL, revision=COMMIT),
            ("qwen", QWEN_MODEL_ID, "main"),
            id="a foreign model's revision is not taken for qwen's",
        ),
        pytest.param(
            identity("qwen", revision=COMMIT),
            ("qwen", QWEN_MODEL_ID, COMMIT),
            id="qwen can be pinned",
        ),
        pytest.param(
            identity("huggingface", id=f"hf://{SMALL}"),
            ("huggingface", SMALL, "main"),
            id="hf:// is left out",
        ),
    ],
)
def test_a_mode_decides_what_counts(asked: object, expected: object) -> None:
    assert asked == expected


def test_mock_needs_no_token() -> None:
    assert source("mock", model={"tokenSecretRef": TOKEN}).token_secret_ref is None


@pytest.mark.parametrize(
    ("wanted", "stored"),
    [
        pytest.param(source("mock"), {"mode": "mock"}, id="only what must be said"),
        pytest.param(
            source("mock"),
            {
                "mode": "mock",
                "generation": {
                    "maxNewTokens": 512,
                    "maxThinkingTokens": 1024,
                    "temperature": 0.7,
                    "topP": 0.9,
                    "topK": 0,
                },
                "patientContext": {"source": "None"},
                "auth": {"mode": "ApiKey"},
            },
            id="every default filled in by the server",
        ),
        pytest.param(
            source("mock", generation={"temperature": 1}),
            {"mode": "mock", "generation": {"temperature": 1}},
            id="a whole number where a fraction is allowed",
        ),
        pytest.param(
            source("mock"), {"mode": "mock", "addedLater": {"by": "a newer operator"}}, id="newer"
        ),
        pytest.param(
            source("qwen", model={"tokenSecretRef": {"name": "hub"}}),
            {
                "mode": "qwen",
                "modelID": QWEN_MODEL_ID,
                "modelRevision": "main",
                "tokenSecretRef": TOKEN,
            },
            id="the key of the token's Secret",
        ),
    ],
)
def test_a_stored_source_is_recognised(wanted: Source, stored: dict[str, Any]) -> None:
    assert Source.model_validate(stored) == wanted


def test_a_source_survives_being_stored() -> None:
    wanted = source("huggingface", model={"id": SMALL, "tokenSecretRef": TOKEN})
    assert Source.model_validate(wanted.dump()) == wanted


def test_a_name_is_the_chatmodels_and_eight_digits() -> None:
    name = revision.name_of("triage", source("mock"), frozenset())
    head, _, digest = name.rpartition("-")
    assert head == "triage"
    assert len(digest) == 8
    assert set(digest) <= set("0123456789abcdef")


def test_a_taken_name_gives_the_next_free_one() -> None:
    names: list[str] = []
    for _ in range(5):
        names.append(revision.name_of("triage", source("mock"), frozenset(names)))
    assert len(set(names)) == 5
    assert revision.name_of("triage", source("mock"), frozenset(names[1:])) == names[0]


def test_foreign_names_do_not_change_ours() -> None:
    free = revision.name_of("triage", source("mock"), frozenset())
    assert revision.name_of("triage", source("mock"), frozenset({"triage-00000000"})) == free
