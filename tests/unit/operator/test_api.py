"""The three CRDs as they are generated from the types, and how a changed page is found.

What the API server makes of them is seen in tests/control_plane.
"""

import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pydantic
import pytest

from chatmodel_operator import metrics_page
from chatmodel_operator.api import crds, reasons_page
from chatmodel_operator.api.chatmodel import ChatModelSpec
from chatmodel_operator.api.chatmodelrevision import ChatModelRevisionSpec
from chatmodel_operator.api.fields import FREE_FORM, Body, Timestamp, cel
from chatmodel_operator.api.instanceclass import InstanceClassSpec, Quantity

ROOT = pathlib.Path(__file__).parents[3]
Schema = dict[str, Any]

# What apiextensions.k8s.io/v1 knows of the keys that pydantic or we could write.
KNOWN_KEYS = frozenset(
    "type format description default enum pattern minLength maxLength minItems maxItems"
    " maxProperties minimum maximum exclusiveMinimum exclusiveMaximum required properties items"
    " additionalProperties nullable x-kubernetes-validations x-kubernetes-list-type"
    " x-kubernetes-map-type"
    " x-kubernetes-list-map-keys x-kubernetes-int-or-string"
    " x-kubernetes-preserve-unknown-fields".split()
)
EVERY_KIND = pytest.mark.parametrize("kind", crds.KINDS, ids=lambda kind: kind.kind)


def schema_of(kind: crds.Kind) -> Schema:
    (version,) = crds.build_crd(kind)["spec"]["versions"]
    return dict(version["schema"]["openAPIV3Schema"])


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield a schema and every schema in it, with its place."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from nodes(schema[key], path + mark)


def not_structural(schema: Schema) -> Iterator[str]:
    """Yield what has no place in the schema of a CRD."""
    for path, node in nodes(schema):
        yield from (f"{path}: {key}" for key in sorted(set(node) - KNOWN_KEYS))
        if "type" not in node and not node.get("x-kubernetes-int-or-string"):
            yield f"{path}: no type"
        if "properties" in node and "additionalProperties" in node:
            yield f"{path}: both properties and additionalProperties"
        for bound in ("exclusiveMinimum", "exclusiveMaximum"):
            if not isinstance(node.get(bound, False), bool):
                yield f"{path}: {bound} is no flag"


def undescribed(schema: Schema) -> list[str]:
    """Return the properties that `kubectl explain` has no sentence for; metadata has its own."""
    return [
        f"{path}.{name}"
        for path, node in nodes(schema)
        for name, inner in node.get("properties", {}).items()
        if not inner.get("description", "").strip() and f"{path}.{name}" != ".metadata"
    ]


def is_there(schema: Schema, path: str) -> bool:
    """Say whether a JSONPath, as a CRD has them, leads to one value of a schema."""
    if path == ".metadata.creationTimestamp":
        return True
    for listed, name in re.findall(r"\[\?\(@\.(\w+)==|\.(\w+)", path):
        here = schema.get("items", {}) if listed else schema
        inner = here.get("properties", {}).get(listed or name, here.get("additionalProperties"))
        if inner is None:
            return False
        schema = here if listed else inner
    return "properties" not in schema and schema.get("type") != "array"


def lost_rules(schema: Schema) -> Iterator[str]:
    """Yield the fields that a rule speaks of and its place does not have."""
    for path, node in nodes(schema):
        rules = [rule["rule"] for rule in node.get("x-kubernetes-validations", [])]
        for words in re.findall(r"\b(?:self|oldSelf)((?:\.\w+\b(?!\())+)", " ".join(rules)):
            here = node
            for name in words.strip(".").split("."):
                here = here.get("properties", {}).get(name)
                if here is None:
                    yield f"{path}: {words}"
                    break
                if path == "" and name == "metadata":
                    break  # the API server's own


def defaulted(schema: Schema, value: Any) -> Any:
    """Fill in defaults as the API server does: only where the object itself is there."""
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    absent = {name: p["default"] for name, p in properties.items() if "default" in p} | value
    return {name: defaulted(properties.get(name, {}), inner) for name, inner in absent.items()}


@EVERY_KIND
def test_what_is_checked_in_is_what_the_types_say(kind: crds.Kind) -> None:
    path = ROOT / f"crds/{kind.plural}.carepath.ai.yaml"
    assert path.read_text() == crds.render(kind)


def test_there_is_a_file_for_each_kind_and_no_other() -> None:
    wanted = {f"{kind.plural}.carepath.ai.yaml" for kind in crds.KINDS}
    assert {path.name for path in (ROOT / "crds").iterdir()} == wanted


@pytest.mark.parametrize(
    ("write", "name"),
    [
        pytest.param(crds.main, "chatmodels.carepath.ai.yaml", id="CRDs"),
        pytest.param(reasons_page.main, "reasons.md", id="page of reasons"),
        pytest.param(metrics_page.main, "operator-metrics.md", id="page of metrics"),
    ],
)
def test_the_check_finds_a_changed_file(
    write: Callable[[], None], name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path if write is crds.main else tmp_path / name
    monkeypatch.setattr(sys, "argv", ["generate", "--out", str(out)])
    write()
    monkeypatch.setattr(sys, "argv", ["generate", "--out", str(out), "--check"])
    write()
    changed = (tmp_path / name).read_text() + "\n"
    (tmp_path / name).write_text(changed)
    with pytest.raises(SystemExit, match="is not in step"):
        write()
    assert (tmp_path / name).read_text() == changed


@EVERY_KIND
def test_every_schema_is_structural(kind: crds.Kind) -> None:
    assert list(not_structural(schema_of(kind))) == []


@EVERY_KIND
def test_every_property_has_a_description(kind: crds.Kind) -> None:
    assert undescribed(schema_of(kind)) == []


@EVERY_KIND
def test_every_path_of_a_crd_leads_to_a_field(kind: crds.Kind) -> None:
    schema = schema_of(kind)
    (version,) = crds.build_crd(kind)["spec"]["versions"]
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    paths += [field["jsonPath"] for field in version.get("selectableFields", [])]
    paths += version.get("subresources", {}).get("scale", {}).values()
    assert [path for path in paths if not is_there(schema, path)] == []


@EVERY_KIND
def test_every_rule_speaks_of_fields_that_are_there(kind: crds.Kind) -> None:
    assert list(lost_rules(schema_of(kind))) == []


class Inner(Body):
    """Something inside."""

    size: int = pydantic.Field(default=3, description="How many.")


class Planted(Body):
    """Everything the generator has to understand, and faults for the checks above."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=cel(("has(self.innerPart) && self.gone == 1", "never"))
    )

    inner_part: Inner = pydantic.Field(default_factory=Inner, description="A part.")
    maybe: Inner | None = pydantic.Field(default=None, description="A part, or none.")
    share: float = pydantic.Field(gt=0, le=1, description="A share.")
    word: Literal["A", "B"] | None = pydantic.Field(default=None, description="A word, or none.")
    parts: list[Inner] | None = pydantic.Field(default=None, description="Parts.")
    sizes: dict[str, Quantity] | None = pydantic.Field(default=None, description="Sizes.")
    free: dict[str, Any] = pydantic.Field(description="As it is.", json_schema_extra=FREE_FORM)
    at: Timestamp | None = None


class Union(Body):
    """What has no structural form."""

    either: int | str = pydantic.Field(description="One or the other.")


PLANTED = crds.build_schema(Planted)


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        pytest.param(
            "share",
            {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 1},
            id="a bound that is outside becomes a flag",
        ),
        pytest.param("word", {"type": "string", "enum": ["A", "B"]}, id="words become an enum"),
        pytest.param("at", {"type": "string", "format": "date-time"}, id="a time is a text"),
        pytest.param(
            "free",
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            id="what is free keeps everything",
        ),
    ],
)
def test_a_type_becomes_its_structural_form(name: str, schema: Schema) -> None:
    found = PLANTED["properties"][name]
    assert {key: value for key, value in found.items() if key != "description"} == schema


def test_parts_are_written_out_where_they_are_used() -> None:
    part = {"description": "How many.", "type": "integer", "default": 3}
    properties = PLANTED["properties"]
    for place in (properties["innerPart"], properties["maybe"], properties["parts"]["items"]):
        assert place["properties"]["size"] == part
    assert properties["maybe"]["description"] == "A part, or none."
    assert "type" not in properties["sizes"]["additionalProperties"]


def test_a_union_has_no_structural_form() -> None:
    with pytest.raises(AssertionError, match="no structural form"):
        crds.build_schema(Union)


def test_planted_faults_are_found() -> None:
    assert undescribed(PLANTED) == [".at"]
    assert list(lost_rules(PLANTED)) == [": .gone"]
    assert not is_there(PLANTED, '.parts[?(@.kind=="a")].size')
    assert not is_there(PLANTED, ".innerPart")
    assert is_there(PLANTED, '.parts[?(@.size=="a")].size')
    parts = {"a": {"$ref": "#/$defs/A"}, "b": {"type": "number", "exclusiveMinimum": 0}}
    assert list(not_structural({"type": "object", "properties": parts, "title": "T"})) == [
        ": title",
        ".a: $ref",
        ".a: no type",
        ".b: exclusiveMinimum is no flag",
    ]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        pytest.param(ChatModelSpec, {"mode": "mock"}, id="ChatModel"),
        pytest.param(
            ChatModelSpec,
            {"mode": "qwen", "model": {"tokenSecretRef": {"name": "hub"}}},
            id="ChatModel with a token",
        ),
        pytest.param(
            ChatModelRevisionSpec,
            {"chatModelName": "triage", "number": 1, "source": {"mode": "mock"}},
            id="ChatModelRevision",
        ),
        pytest.param(
            InstanceClassSpec,
            {"resources": {"requests": {}, "limits": {}}, "price": {"hourly": "0.05"}},
            id="InstanceClass",
        ),
    ],
)
def test_defaults_of_the_schema_are_those_of_the_types(kind: type[Body], spec: Schema) -> None:
    assert defaulted(crds.build_schema(kind), spec) == kind.model_validate(spec).dump()
