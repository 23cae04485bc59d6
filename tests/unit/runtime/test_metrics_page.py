"""docs/metrics.md is what the code says."""

import pathlib
import sys

import pytest

from chatmodel_runtime import families, metrics_page

ROOT = pathlib.Path(__file__).parents[3]


def test_the_page_is_in_step_and_has_every_metric() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    assert page == metrics_page.build_page()
    for family in families.FAMILIES:
        assert f"| `{family.exposed}` |" in page


def test_the_check_finds_a_changed_page(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "metrics.md"
    for options in ([], ["--check"]):
        monkeypatch.setattr(sys, "argv", ["page", "--out", str(out), *options])
        metrics_page.main()
    out.write_text(out.read_text() + "\n")
    with pytest.raises(SystemExit, match="is not in step"):
        metrics_page.main()
