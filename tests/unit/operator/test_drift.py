import pytest

from chatmodel_operator import comparing
from chatmodel_operator.drift import MOST_REPAIRS, WINDOW_SECONDS, Drift, Ref

SERVICE: Ref = ("Service", "clinic", "triage")
OTHER: Ref = ("Service", "clinic", "other")
MANIFEST = {"spec": {"selector": {"revision": "triage-1"}}}


def contested(at: float = 0.0) -> Drift:
    drift = Drift()
    for number in range(MOST_REPAIRS + 1):  # the first is no repair yet
        drift.note(SERVICE, MANIFEST, at + number)
    return drift


def test_what_is_changed_back_again_and_again_is_left_alone_for_a_while() -> None:
    drift = contested()
    assert drift.wait(SERVICE, 10.0) == WINDOW_SECONDS + 1 - 10.0
    assert drift.wait(OTHER, 10.0) == 0.0


def test_after_the_window_it_is_mended_again() -> None:
    assert contested().wait(SERVICE, WINDOW_SECONDS + 2) == 0.0


def test_a_few_repairs_are_no_contest() -> None:
    drift = Drift()
    for number in range(MOST_REPAIRS):
        drift.note(SERVICE, MANIFEST, float(number))
        assert drift.wait(SERVICE, float(number)) == 0.0


def test_many_rollouts_are_no_contest() -> None:
    drift = Drift()
    for number in range(100):
        drift.note(SERVICE, {"spec": {"selector": {"revision": f"triage-{number}"}}}, 1.0 * number)
        assert drift.wait(SERVICE, 1.0 * number) == 0.0


def test_a_new_wish_ends_a_contest() -> None:
    drift = contested()
    drift.note(SERVICE, {"spec": {"selector": {"revision": "triage-2"}}}, 20.0)
    assert drift.wait(SERVICE, 20.0) == 0.0


@pytest.mark.parametrize(
    ("wanted", "live", "path"),
    [
        pytest.param({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, "", id="more is no difference"),
        pytest.param({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b", id="another value"),
        pytest.param({"a": {"b": 1}}, {"a": {}}, "a.b", id="a missing value"),
        pytest.param({"a": {"b": 1}}, {"a": None}, "a", id="an emptied part"),
        pytest.param({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {"b": 3}]}, "a.1.b", id="item"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, "a", id="a longer list"),
        pytest.param({"a": []}, {}, "", id="an empty list that the server left out"),
        pytest.param({"a": 0}, {}, "a", id="a zero is not empty"),
        pytest.param(
            {"env": [{"name": "OURS", "value": "1"}]},
            {"env": [{"name": "THEIRS", "value": "2"}, {"name": "OURS", "value": "1"}]},
            "",
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
def test_the_field_that_differs_is_named(
    wanted: dict[str, object], live: dict[str, object], path: str
) -> None:
    assert comparing.find_difference(wanted, live) == path
    assert comparing.is_applied(wanted, live) == (path == "")
