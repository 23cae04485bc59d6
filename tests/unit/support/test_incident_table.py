"""The table of incidents names tests that exist, and refuses a row nobody has decided on."""

import incident_table
import pytest
from incident_rows import INCIDENTS, Row

HERE = "unit/support/test_incident_table.py"


@pytest.mark.parametrize(
    ("proof", "there"),
    [
        pytest.param(f"{HERE}::test_a_proof_is_looked_for", True, id="a test"),
        pytest.param("golden/rollouts/a-mock-goes-live.txt", True, id="a film"),
        pytest.param(f"{HERE}::test_that_was_renamed", False, id="a test that was renamed"),
        pytest.param("unit/support/test_gone.py::test_a", False, id="a file that is gone"),
        pytest.param("golden/rollouts/gone.txt", False, id="a film that is gone"),
        pytest.param(HERE, False, id="a whole file"),
        pytest.param(f"{HERE}::HERE", False, id="something else of a file"),
    ],
)
def test_a_proof_is_looked_for(proof: str, there: bool) -> None:
    assert incident_table.is_there(proof) is there


@pytest.mark.parametrize(
    ("row", "why"),
    [
        pytest.param(Row("a", "b"), "X has no proof", id="undecided"),
        pytest.param(Row("a", "b", ("gone.py::test_x",)), "there is no tests/gone", id="gone"),
    ],
)
def test_a_row_that_is_not_decided_on_is_refused(row: Row, why: str) -> None:
    with pytest.raises(SystemExit, match=why):
        incident_table.build_page({**INCIDENTS, "X": row})


def test_the_page_is_in_step() -> None:
    assert incident_table.PAGE.read_text() == incident_table.build_page(INCIDENTS)
