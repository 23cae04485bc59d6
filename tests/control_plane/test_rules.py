"""Every rule of the CRDs on a real API server: what it takes, what it refuses, in which words."""

import copy
import pathlib
from collections.abc import Iterator

import pytest
import rules
import yaml
from kube import ROOT, Body, Kube, random_name
from rest import Rest
from rules import Example, Rule

WHOLE, EXAMPLES = rules.examples(pathlib.Path(__file__).with_name("rules.yaml"))
CRDS = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").iterdir())]
RULES = [rule for crd in CRDS for rule in rules.rules_of(crd)]


def whole(kind: str) -> Body:
    body = {"apiVersion": "carepath.ai/v1alpha1", "kind": kind, **copy.deepcopy(WHOLE[kind])}
    body["metadata"]["name"] = random_name("r")
    return body


@pytest.fixture(scope="module")
def rest(cluster: Kube) -> Iterator[Rest]:
    name = random_name("rules")
    cluster.run("create", "namespace", name)
    rest = Rest(cluster.kubeconfig, name)
    yield rest
    rest.close()
    cluster.run("delete", "namespace", name, "--wait=false")


def ask(rest: Rest, example: Example, value: object, was: object) -> tuple[int, str]:
    """Put one value to the API server; nothing stays."""
    body = whole(example.kind)
    if example.is_change:
        body = rules.put(body, example.place, was)
    elif not example.place.startswith("status"):
        code, answer = rest.create(rules.put(body, example.place, value), dry=True)
        return code, answer.get("message", "")
    code, answer = rest.create(body)
    assert code == 201, answer
    after = rules.put(body, example.place, value)
    part, name = example.place.partition(".")[0], body["metadata"]["name"]
    if part == "status":
        change = {"status": after["status"]}
    else:
        change = {"spec": rules.change(body["spec"], after["spec"])}
    try:
        code, answer = rest.patch(
            example.kind, name, change, part="status" if part == "status" else "", dry=True
        )
    finally:
        rest.delete(example.kind, name)
    return code, answer.get("message", "")


def name_of(example: Example) -> str:
    return f"{example.kind} {example.place or 'metadata'}: {example.keyword}"


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_a_rule_takes_what_keeps_it(rest: Rest, example: Example) -> None:
    code, message = ask(rest, example, example.takes, example.was)
    assert code in (200, 201), message


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_a_rule_refuses_what_breaks_it_and_says_so(rest: Rest, example: Example) -> None:
    code, message = ask(rest, example, example.refuses, example.was_refused)
    assert code == 422, message
    assert example.says in message
    place = example.place.replace("[]", "[0]").replace("{}", ".cpu")
    assert place in message


def without_examples(of: list[Rule], having: list[Example]) -> set[Rule]:
    return set(of) - {example.rule for example in having}


def test_every_rule_has_an_example_and_every_example_a_rule() -> None:
    assert without_examples(RULES, EXAMPLES) == set()
    assert {example.rule for example in EXAMPLES} - set(RULES) == set()
    assert len(EXAMPLES) == len({example.rule for example in EXAMPLES})


def test_every_keyword_of_the_schemas_is_known_as_a_rule_or_as_none() -> None:
    none = "type description default properties items additionalProperties required".split()
    kubernetes = "validations list-type list-map-keys map-type int-or-string"
    kubernetes += " preserve-unknown-fields"
    known = {*none, *rules.KEYWORDS, "exclusiveMinimum", "exclusiveMaximum"}
    known |= {f"x-kubernetes-{word}" for word in kubernetes.split()}
    assert {key for crd in CRDS for key in rules.keywords_of(crd)} <= known


@pytest.mark.parametrize(
    ("change", "keyword"),
    [
        pytest.param({"maxLength": 3}, "maxLength", id="a length"),
        pytest.param({"enum": ["a"]}, "enum", id="a list of words"),
        pytest.param(
            {"x-kubernetes-validations": [{"rule": "true", "message": "never"}]},
            "never",
            id="a sentence in CEL",
        ),
    ],
)
def test_a_planted_rule_without_example_is_found(change: Body, keyword: str) -> None:
    crd = copy.deepcopy(next(c for c in CRDS if c["spec"]["names"]["kind"] == "ChatModel"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["planted"] = {"type": "string"} | change
    assert without_examples(list(rules.rules_of(crd)), EXAMPLES) == {
        ("ChatModel", "spec.planted", keyword)
    }
