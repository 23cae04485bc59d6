"""Whether a manifest is in the live object already: what the server adds is no difference."""

from typing import Any

import pytest
from rendered import MOCK, QWEN, manifests

from chatmodel_operator.comparing import build_change, build_merge, is_applied, is_part_of

LIVE: dict[str, Any] = {
    "metadata": {"name": "triage", "uid": "1", "labels": {"a": "1", "theirs": "2"}},
    "spec": {
        "replicas": 1,
        "progressDeadlineSeconds": 600,
        "ports": [{"port": 8002, "protocol": "TCP"}],
    },
    "status": {"replicas": 1},
}


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param({}, id="nothing"),
        pytest.param(LIVE, id="the object itself"),
        pytest.param({"metadata": {"labels": {"a": "1"}}}, id="one label of several"),
        pytest.param({"spec": {"ports": [{"port": 8002}]}}, id="a list item without a default"),
        pytest.param({"spec": {}}, id="an empty part"),
    ],
)
def test_this_is_there_already(wanted: Any) -> None:
    assert is_part_of(wanted, LIVE)


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param({"metadata": {"labels": {"a": "2"}}}, id="another value"),
        pytest.param({"metadata": {"labels": {"b": "1"}}}, id="a label that is not there"),
        pytest.param({"metadata": {"annotations": {}}}, id="a part that is not there"),
        pytest.param({"spec": {"replicas": 0}}, id="zero for one"),
        pytest.param({"spec": {"replicas": "1"}}, id="a text for a number"),
        pytest.param({"spec": {"ports": []}}, id="an item too many"),
        pytest.param({"spec": {"ports": [{"port": 8002}, {"port": 9090}]}}, id="an item too few"),
        pytest.param({"spec": {"ports": {"port": 8002}}}, id="an object for a list"),
        pytest.param({"spec": [1]}, id="a list for an object"),
        pytest.param({"metadata": {"name": {"triage": 1}}}, id="an object for a text"),
    ],
)
def test_this_has_to_be_written(wanted: Any) -> None:
    assert not is_part_of(wanted, LIVE)


def manifest(**parts: Any) -> Any:
    return {"apiVersion": "v1", "kind": "Service"} | parts


@pytest.mark.parametrize(
    ("wanted", "change"),
    [
        pytest.param(manifest(spec={"replicas": 1}), {}, id="nothing"),
        pytest.param(
            manifest(spec={"replicas": 2, "progressDeadlineSeconds": 600}),
            {"spec": {"replicas": 2}},
            id="one number",
        ),
        pytest.param(
            manifest(metadata={"labels": {"a": "1", "b": "2", "theirs": None}}),
            {"metadata": {"labels": {"b": "2", "theirs": None}}},
            id="a label that is new, and one that must not be there",
        ),
        pytest.param(
            manifest(metadata={"annotations": {"x": "y"}}),
            {"metadata": {"annotations": {"x": "y"}}},
            id="the first annotation",
        ),
        pytest.param(
            manifest(spec={"ports": [{"port": 8003}], "replicas": 2}), None, id="a list as well"
        ),
    ],
)
def test_a_change_holds_what_differs_unless_that_is_a_list(wanted: Any, change: Any) -> None:
    assert build_change(wanted, LIVE) == change


def test_a_label_that_must_not_be_there_is_a_difference() -> None:
    assert not is_applied(manifest(metadata={"labels": {"theirs": None}}), LIVE)
    assert is_applied(manifest(metadata={"labels": {"other": None}}), LIVE)


@pytest.mark.parametrize(
    ("after", "patch"),
    [
        pytest.param({"a": 1, "b": {"c": 1, "d": 2}, "e": [1, 2]}, {}, id="nothing"),
        pytest.param({"a": 2, "b": {"c": 1, "d": 2}, "e": [1, 2]}, {"a": 2}, id="a value"),
        pytest.param({"a": 1, "b": {"c": 1}, "e": [1, 2]}, {"b": {"d": None}}, id="a key less"),
        pytest.param({"a": 1}, {"b": None, "e": None}, id="an object and a list less"),
        pytest.param(
            {"a": {"x": 1}, "b": 1, "e": [2]}, {"a": {"x": 1}, "b": 1, "e": [2]}, id="all else"
        ),
    ],
)
def test_a_merge_patch_makes_one_body_into_another(after: Any, patch: Any) -> None:
    before = {"a": 1, "b": {"c": 1, "d": 2}, "e": [1, 2]}
    assert build_merge(before, after) == patch


def test_the_order_of_a_list_counts() -> None:
    assert not is_part_of([1, 2], [2, 1])


@pytest.mark.parametrize("spec", [pytest.param(MOCK, id="mock"), pytest.param(QWEN, id="qwen")])
def test_what_was_written_need_not_be_written_again(spec: Any) -> None:
    for manifest in manifests(spec):
        assert is_part_of(manifest, _as_stored(manifest))


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        pytest.param("1024Mi", "1Gi", id="mebibytes that make a gibibyte"),
        pytest.param("0.5", "500m", id="half a core"),
        pytest.param("1000m", "1", id="a thousand millicores"),
    ],
)
def test_a_quantity_is_the_same_in_the_servers_spelling(written: str, stored: str) -> None:
    assert is_part_of({"limits": {"x": written}}, {"limits": {"x": stored}})


def _as_stored(value: Any) -> Any:
    """Return a value as a server might store it: with a default added to every object."""
    if isinstance(value, dict):
        return {key: _as_stored(inner) for key, inner in value.items()} | {"defaulted": True}
    if isinstance(value, list):
        return [_as_stored(inner) for inner in value]
    return value
