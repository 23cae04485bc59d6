"""Whether a manifest is in the live object already: what the server adds is no difference."""

from typing import Any

import pytest
from rendered import MOCK, QWEN, manifests

from chatmodel_operator.comparing import is_part_of

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
