"""The table of faults counts what is marked, and refuses what nobody has decided on."""

import fault_table
import pytest
from fault_rows import NOT_AUTOMATED, ROWS

MARKED = '@pytest.mark.fault("A3", "A4")\ndef test_a(): ...\nfault("B1", "a name")\n'


def test_rows_are_found_in_markers_and_tables() -> None:
    assert sorted(fault_table.find_marks(MARKED)) == ["A3", "A4", "B1"]


def test_a_marker_without_a_row_is_found() -> None:
    assert fault_table.find_unknown('@pytest.mark.fault("A3", "Z9")\ndef test_a(): ...\n') == ["Z9"]


def test_a_row_with_neither_test_nor_reason_is_refused() -> None:
    assert "A3" not in NOT_AUTOMATED
    with pytest.raises(SystemExit, match="A3 has no test"):
        fault_table.build_page({row: ["x.py"] if row != "A3" else [] for row in ROWS})


def test_every_reason_is_for_a_row_that_no_test_plays() -> None:
    played = {row for row, names in fault_table.collect().items() if names}
    assert played.isdisjoint(NOT_AUTOMATED)
