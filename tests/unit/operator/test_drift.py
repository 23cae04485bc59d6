"""When somebody else keeps changing what the operator wrote: put back five times, then told."""

from typing import Any

import pytest

from chatmodel_operator.drift import MAX_REPAIRS, WINDOW_SECONDS, Repairs, find_difference

WRITTEN: dict[str, Any] = {
    "kind": "Service",
    "metadata": {
        "namespace": "team",
        "name": "triage",
        "labels": {"carepath.ai/chatmodel": "triage"},
    },
    "spec": {"selector": {"a": "1"}},
}
CHANGED: dict[str, Any] = {**WRITTEN, "spec": {"selector": {"a": "2"}}}


def repaired(times: int, every: float = 1.0) -> Repairs:
    """Return the memory of a first write and so many repairs."""
    repairs = Repairs()
    for turn in range(times + 1):
        assert not repairs.is_contested(WRITTEN, CHANGED, turn * every)
        repairs.wrote(WRITTEN, turn * every)
    return repairs


def test_five_repairs_are_made_and_the_sixth_is_told_instead() -> None:
    repairs = repaired(MAX_REPAIRS)
    assert repairs.contested("team", "triage") == ""
    assert repairs.is_contested(WRITTEN, CHANGED, 7.0)
    assert repairs.contested("team", "triage") == (
        "Service triage: spec.selector.a was put back 5 times within 10 minutes"
        " and has been changed again"
    )


def test_repairs_go_on_when_the_window_has_moved() -> None:
    repairs = repaired(MAX_REPAIRS)
    assert repairs.is_contested(WRITTEN, CHANGED, 7.0)
    assert not repairs.is_contested(WRITTEN, CHANGED, WINDOW_SECONDS + 2.0)
    assert repairs.contested("team", "triage") == ""


def test_rare_repairs_are_never_contested() -> None:
    repaired(20, every=WINDOW_SECONDS / (MAX_REPAIRS - 1))


def test_writes_that_differ_are_no_repairs() -> None:
    repairs = Repairs()
    for turn in range(20):
        manifest = WRITTEN | {"spec": {"selector": {"a": str(turn % 2)}}}
        assert not repairs.is_contested(manifest, CHANGED, float(turn))
        repairs.wrote(manifest, float(turn))


def test_the_trouble_is_over_when_the_object_is_right_again_or_its_chatmodel_gone() -> None:
    repairs = repaired(MAX_REPAIRS)
    assert repairs.is_contested(WRITTEN, CHANGED, 7.0)
    repairs.agrees(WRITTEN)
    assert repairs.contested("team", "triage") == ""
    assert repairs.is_contested(WRITTEN, CHANGED, 8.0)
    repairs.forget("team", "triage")
    assert not repairs.is_contested(WRITTEN, CHANGED, 9.0)


def test_versions_in_the_body_make_no_other_write_of_it() -> None:
    repairs = Repairs()
    for turn in range(MAX_REPAIRS + 1):
        meta = WRITTEN["metadata"] | {"uid": "u", "resourceVersion": str(turn)}
        repairs.wrote(WRITTEN | {"metadata": meta}, float(turn))
    assert repairs.is_contested(WRITTEN, CHANGED, 7.0)


@pytest.mark.parametrize(
    ("wanted", "live", "path"),
    [
        pytest.param({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, None, id="more is no difference"),
        pytest.param({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b", id="another value"),
        pytest.param({"a": {"b": 1}}, {"a": {}}, "a.b", id="a missing value"),
        pytest.param({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {"b": 3}]}, "a.1.b", id="item"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, "a", id="a longer list"),
        pytest.param(
            {"env": [{"name": "OURS", "value": "1"}]},
            {"env": [{"name": "THEIRS", "value": "2"}, {"name": "OURS", "value": "1"}]},
            None,
            id="a variable that an admission policy has added",
        ),
        pytest.param(
            {"env": [{"name": "OURS", "value": "1"}]},
            {"env": [{"name": "OURS", "value": "2"}]},
            "env.OURS.value",
            id="a variable of ours with another value",
        ),
    ],
)
def test_the_field_that_differs_is_named(wanted: Any, live: Any, path: str | None) -> None:
    assert find_difference(wanted, live) == path
