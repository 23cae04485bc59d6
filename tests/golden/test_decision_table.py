"""The page of decisions: a decision without a film is found, and so is a film's decision."""

import decision_table
import pytest

FILM = "a-model-that-dies-under-traffic-is-rolled-back"


@pytest.fixture(scope="module")
def seen() -> decision_table.Seen:
    """What one film shows."""
    return decision_table.watch_films([FILM])


def test_what_a_film_decides_is_noted(seen: decision_table.Seen) -> None:
    assert seen.rules["fail_a_bad_target"] == [FILM]
    assert seen.choices["No revision has this spec's source"] == [FILM]
    assert seen.reasons[decision_table.Reason.RolledBack] == [FILM]


def test_what_no_film_shows_is_missing(seen: decision_table.Seen) -> None:
    lacking = decision_table.missing(seen)
    assert {"begin_a_swap", "A pinned revision is Verified", "Held"} <= set(lacking)
    assert not {"fail_a_bad_target", "RolledBack"} & set(lacking)
