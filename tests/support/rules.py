"""Every rule of the CRDs, and examples for each: one that is taken and one that is refused.

`rules_of` walks a generated CRD; `examples` reads the table tests/control_plane/rules.yaml. A rule
without an example, or an example of no rule, is a fault of the table.
"""

import copy
import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import yaml

Body = dict[str, Any]
SENTENCES = {
    "required": "Required value",
    "enum": "supported values: ",
    "format": "must be of type date-time",
    "pattern": "should match ",
    "minLength": "should be at least 1 chars long",
    "maxLength": "Too long: may not be more than ",
    "maxItems": "must have at most ",
    "maxProperties": "must have at most ",
    "minimum": "should be greater than or equal to ",
    "maximum": "should be less than or equal to ",
    "unique": "Duplicate value",
}
# A rule: kind, place, keyword. A CEL rule's keyword is its message; a required field has a place.
Rule = tuple[str, str, str]
KEYWORDS = (
    "enum format pattern minLength maxLength minItems maxItems minProperties maxProperties minimum"
    " maximum multipleOf uniqueItems".split()
)


def rules_of(crd: Body) -> Iterator[Rule]:
    """Yield every rule of a CRD."""
    (version,) = crd["spec"]["versions"]
    for place, keyword in _rules(version["schema"]["openAPIV3Schema"], ""):
        yield crd["spec"]["names"]["kind"], place, keyword


def _rules(schema: Body, place: str) -> Iterator[tuple[str, str]]:
    yield from ((place, keyword) for keyword in KEYWORDS if keyword in schema)
    yield from ((f"{place}.{name}".strip("."), "required") for name in schema.get("required", ()))
    yield from ((place, rule["message"]) for rule in schema.get("x-kubernetes-validations", ()))
    if schema.get("x-kubernetes-list-type") in ("map", "set"):
        yield place, "unique"
    for name, inner in schema.get("properties", {}).items():
        yield from _rules(inner, f"{place}.{name}".strip("."))
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from _rules(schema[key], place + mark)


def keywords_of(crd: Body) -> Iterator[str]:
    """Yield every keyword of a CRD's schema."""
    (version,) = crd["spec"]["versions"]
    yield from _keywords(version["schema"]["openAPIV3Schema"])


def _keywords(schema: Body) -> Iterator[str]:
    yield from schema
    inner = [*schema.get("properties", {}).values()]
    inner += [
        schema[k] for k in ("items", "additionalProperties") if isinstance(schema.get(k), dict)
    ]
    for part in inner:
        yield from _keywords(part)


@dataclasses.dataclass(frozen=True)
class Example:
    """One rule, what it takes, what it refuses, and the sentence the user then reads.

    Values go to the rule's place. A change has what stood there before.
    """

    kind: str
    place: str
    keyword: str
    takes: Any
    refuses: Any
    says: str
    is_change: bool = False
    was: Any = None
    was_refused: Any = None

    @property
    def rule(self) -> Rule:
        """Return the rule it is an example of."""
        return self.kind, self.place, self.keyword


class _Loader(yaml.SafeLoader):
    """YAML with `!a 3` for aaa, and values of a length for models, URLs, maps, words and lists."""


for _tag, _make in {
    "!a": lambda count: "a" * count,
    "!model": lambda count: "a/" + "a" * (count - 2),
    "!url": lambda count: "http://" + "a" * (count - 7),
    "!map": lambda count: {f"example.org/r{i}": "1" for i in range(count)},
    "!words": lambda count: [f"w{i}" for i in range(count)],
    "!list": lambda count: [{"key": f"k{i}"} for i in range(count)],
}.items():
    _Loader.add_constructor(
        _tag, lambda loader, node, make=_make: make(int(loader.construct_scalar(node)))
    )


def examples(path: pathlib.Path) -> tuple[dict[str, Body], list[Example]]:
    """Return a whole object of each kind, and all examples of a table."""
    table = yaml.load(path.read_text(), _Loader)
    found = [
        _example(*where.partition(" ")[::2], row)
        for group in table["groups"]
        for where in group["of"]
        for row in group["rules"]
    ]
    return table["whole"], found


def _example(kind: str, prefix: str, row: list[Any]) -> Example:
    place, keyword, takes, refuses, *rest = row
    example = Example(kind, f"{prefix}.{place}".strip("."), keyword, takes, refuses, keyword)
    if keyword in SENTENCES:
        return dataclasses.replace(example, says=rest[0] if rest else SENTENCES[keyword])
    if not rest:
        return example
    return dataclasses.replace(example, is_change=True, was=rest[0], was_refused=rest[-1])


def put(body: Body, place: str, value: Any) -> Body:
    """Return a body with a value at a place: merged into an object, null takes a field away.

    `[]` is the first item of a list, `{}` the entry cpu of a map.
    """
    body = copy.deepcopy(body)
    words = re.findall(r"\[\]|\{\}|[^.\[\]{}]+", place)
    keys: list[Any] = [{"[]": 0, "{}": "cpu"}.get(word, word) for word in words]
    here: Any = body
    for key in keys[:-1]:
        here = here[key] if isinstance(key, int) else here.setdefault(key, {})
    if not keys:
        return dict(merged(body, value))
    last = keys[-1]
    if value is None:
        del here[last]
    elif isinstance(last, int):
        here[last] = merged(here[last], value)
    else:
        here[last] = merged(here.get(last), value)
    return body


def merged(old: Any, new: Any) -> Any:
    """Return a JSON merge patch applied."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return copy.deepcopy(new)
    out = {key: value for key, value in old.items() if new.get(key, ...) is not None}
    for key, value in new.items():
        if value is not None:
            out[key] = merged(old.get(key), value)
    return out


def change(old: Any, new: Any) -> Any:
    """Return the JSON merge patch that leads from one value to another."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    gone = {key: None for key in old if key not in new}
    return gone | {
        key: change(old.get(key), value) for key, value in new.items() if value != old.get(key)
    }
