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
    ("live", "field"),
    [
        pytest.param({"spec": {"selector": {"revision": "other"}}}, "spec.selector.revision"),
        pytest.param({"spec": {"selector": None}}, "spec.selector"),
        pytest.param({}, "spec"),
        pytest.param({"spec": {"selector": {"revision": "triage-1", "theirs": "x"}}}, ""),
    ],
    ids=["a changed value", "an emptied part", "a missing part", "an addition is no difference"],
)
def test_the_field_that_was_changed_is_named(live: dict[str, object], field: str) -> None:
    assert comparing.find_difference(MANIFEST, live) == field
