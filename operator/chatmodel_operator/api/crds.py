"""CustomResourceDefinitions from the pydantic types: `python -m chatmodel_operator.api.crds`.

Writes `crds/`, which is checked in; `--check` says whether it is in step. Pure but for that.
"""

import argparse
import dataclasses
import pathlib
import sys
from typing import Any

import pydantic
import yaml

from chatmodel_operator.api import chatmodel, chatmodelrevision, chatmodelstatus, instanceclass
from chatmodel_operator.api.fields import ATOMIC, GROUP, VERSION, cel

Schema = dict[str, Any]

NAME_RULE = cel(
    (
        "self.metadata.name.size() <= 40"
        " && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must be at most 40 lower case letters, digits and dashes,"
        " and start with a letter",
    )
)
# Keys of a JSON schema that a structural schema has no place for.
DROPPED = ("title", "$defs", "discriminator")


def ready(part: str) -> str:
    """Return the JSONPath of a field of the Ready condition."""
    return f'.status.conditions[?(@.type=="Ready")].{part}'


def selectable(*paths: str) -> Schema:
    """Return the fields that `kubectl get --field-selector` knows."""
    return {"selectableFields": [{"jsonPath": path} for path in paths]}


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of `kubectl get`; priority 1 is shown with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a CRD says besides its schema."""

    kind: str
    plural: str
    short: tuple[str, ...]
    scope: str
    spec: type[pydantic.BaseModel]
    status: type[pydantic.BaseModel] | None
    columns: tuple[Column, ...]
    description: str
    extras: Schema = dataclasses.field(default_factory=dict)
    version_extras: Schema = dataclasses.field(default_factory=dict)
    subresources: Schema = dataclasses.field(default_factory=dict)
    status_default: Schema | None = None


AGE = Column("Age", ".metadata.creationTimestamp", "date")

KINDS = (
    Kind(
        kind=chatmodel.KIND,
        plural="chatmodels",
        short=("chm",),
        scope="Namespaced",
        spec=chatmodel.ChatModelSpec,
        status=chatmodelstatus.ChatModelStatus,
        status_default=chatmodelstatus.NOT_SEEN,
        description="ChatModel says which chat model should serve; the operator makes it so.",
        columns=(
            Column("Mode", ".spec.mode"),
            Column("Model", ".status.target.modelID"),
            Column("Ready", ready("status")),
            Column("Reason", ready("reason")),
            Column("Serving", ".status.serving.revision"),
            Column("Target", ".status.target.revision"),
            Column("Pods", ".status.pods"),
            AGE,
            Column("Available", '.status.conditions[?(@.type=="Available")].status', priority=1),
            Column("Cache", ".spec.cache.strategy", priority=1),
            Column("Class", ".spec.instanceClassName", priority=1),
            Column("$/h", ".status.cost.hourly", priority=1),
            Column("Message", ready("message"), priority=1),
        ),
        extras=NAME_RULE,
        version_extras=selectable(".spec.mode", ".spec.model.id", ".spec.instanceClassName"),
        subresources={
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            }
        },
    ),
    Kind(
        kind=chatmodelrevision.KIND,
        plural="chatmodelrevisions",
        short=("chmr",),
        scope="Namespaced",
        spec=chatmodelrevision.ChatModelRevisionSpec,
        status=chatmodelrevision.ChatModelRevisionStatus,
        status_default=chatmodelrevision.NOT_RECORDED,
        description=(
            "ChatModelRevision records one thing that was or is to be served, with its verdict."
            " Written by the operator only."
        ),
        columns=(
            Column("ChatModel", ".spec.chatModelName"),
            Column("Number", ".spec.number", "integer"),
            Column("Mode", ".spec.source.mode"),
            Column("Model", ".spec.source.modelID"),
            Column("Verdict", ".status.verdict"),
            Column("Reason", ".status.reason"),
            Column("Seconds", ".status.seconds", "integer"),
            Column("Outage", ".status.outageSeconds", "integer"),
            AGE,
            Column("Commit", ".spec.commit", priority=1),
            Column("Message", ".status.message", priority=1),
        ),
        version_extras=selectable(".spec.chatModelName", ".spec.source.mode", ".status.verdict"),
    ),
    Kind(
        kind=instanceclass.KIND,
        plural="instanceclasses",
        short=(),
        scope="Cluster",
        spec=instanceclass.InstanceClassSpec,
        status=None,
        description="InstanceClass is a named size of pods with its price, for all namespaces.",
        columns=(
            Column("CPU", ".spec.resources.requests.cpu"),
            Column("Memory", ".spec.resources.limits.memory"),
            Column("GPU", ".spec.accelerator.count", "integer"),
            Column("$/h", ".spec.price.hourly"),
            AGE,
        ),
    ),
)


def build_crd(kind: Kind) -> Schema:
    """Return one CustomResourceDefinition."""
    properties = {"spec": build_schema(kind.spec), "metadata": {"type": "object"}}
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    if kind.status is not None:
        properties["status"] = build_schema(kind.status) | ATOMIC
        if kind.status_default is not None:
            properties["status"]["default"] = kind.status_default
        version["subresources"] = {"status": {}} | kind.subresources
    version["schema"] = {
        "openAPIV3Schema": {
            "type": "object",
            "description": kind.description,
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string", "description": "The version of this schema."},
                "kind": {"type": "string", "description": f"Always {kind.kind}."},
                **properties,
            },
            **kind.extras,
        }
    }
    names = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
        "categories": ["all", "carepath"] if kind.scope == "Namespaced" else ["carepath"],
    }
    if kind.short:
        names["shortNames"] = list(kind.short)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": kind.scope,
            "names": names,
            "versions": [version | kind.version_extras],
        },
    }


def _column(column: Column) -> Schema:
    body: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return body | {"priority": column.priority} if column.priority else body


def build_schema(model: type[pydantic.BaseModel]) -> Schema:
    """Return the structural schema of a type: references inlined, unions with null resolved."""
    whole = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(whole, whole.get("$defs", {}))


def _structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    out = _plain(_resolve(schema, definitions))
    if "properties" in out:
        out["properties"] = {
            key: _structural(value, definitions) for key, value in out["properties"].items()
        }
        _default_objects(out["properties"])
    if isinstance(out.get("items"), dict):
        out["items"] = _structural(out["items"], definitions)
    if isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(out["additionalProperties"], definitions)
    return out


def _plain(schema: Schema) -> Schema:
    """Return one level of a schema in the form that a CRD has for it."""
    out = {key: value for key, value in schema.items() if key not in DROPPED}
    if out.get("default", ...) is None:
        del out["default"]
    for bound in ("exclusiveMinimum", "exclusiveMaximum"):
        if bound in out:  # numbers in JSON Schema, flags beside minimum and maximum in a CRD
            out[bound.removeprefix("exclusive").lower()] = out[bound]
            out[bound] = True
    if out.get("x-kubernetes-validations") == []:
        del out["x-kubernetes-validations"]
    if out.get("x-kubernetes-preserve-unknown-fields"):
        out.pop("additionalProperties", None)
    if out.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
    return out


def _resolve(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Return a schema with its reference or optional alternative merged in; its own words win."""
    merged: Schema = {}
    own = dict(schema)
    if "anyOf" in own:
        options = [option for option in own.pop("anyOf") if option.get("type") != "null"]
        assert len(options) == 1, f"no structural form for the union {options}"
        merged |= _resolve(options[0], definitions)
    if "$ref" in own:
        merged |= _resolve(definitions[own.pop("$ref").rsplit("/", 1)[1]], definitions)
    return merged | own


def _default_objects(properties: dict[str, Schema]) -> None:
    """Give objects that have defaults inside, and nothing required, the default {}.

    The API server fills in nested defaults only where the object itself is there.
    """
    for value in properties.values():
        inner = value.get("properties", {})
        if inner and not value.get("required") and any("default" in p for p in inner.values()):
            value.setdefault("default", {})
        if isinstance(value.get("default"), dict):
            value["default"] = {}


def render(kind: Kind) -> str:
    """Return the YAML of one CRD."""
    head = "# Generated from operator/chatmodel_operator/api: `make generate`. Do not edit.\n"
    return head + yaml.safe_dump(build_crd(kind), sort_keys=False, width=100, allow_unicode=True)


def main() -> None:
    """Write the CRDs, or with --check say whether they are in step."""
    parser = argparse.ArgumentParser(description="Write the CustomResourceDefinitions.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("crds"))
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    args = parser.parse_args()
    for kind in KINDS:
        path = args.out / f"{kind.plural}.{GROUP}.yaml"
        if not args.check:
            path.write_text(render(kind))
        elif not path.exists() or path.read_text() != render(kind):
            sys.exit(f"{path} is not in step: run python -m chatmodel_operator.api.crds")


if __name__ == "__main__":
    main()
