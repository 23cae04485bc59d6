"""Names in the source tree that would shadow the standard library, or would make it shadow us."""

import pathlib
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCE_ROOTS = ("operator", "runtime")


def shadows(folder: pathlib.Path) -> Iterator[str]:
    """Yield modules and packages that bear the name of a module of the standard library."""
    for path in sorted(folder.rglob("*")):
        is_package = path.is_dir() and (path / "__init__.py").exists()
        if (is_package or path.suffix == ".py") and path.stem in sys.stdlib_module_names:
            yield path.relative_to(folder).as_posix()


@pytest.mark.parametrize("name", SOURCE_ROOTS)
def test_a_source_root_is_no_package(name: str) -> None:
    # With operator/__init__.py, a Python started in the project's folder has another `operator`.
    assert (ROOT / name).is_dir()
    assert not (ROOT / name / "__init__.py").exists()


@pytest.mark.parametrize("name", SOURCE_ROOTS)
def test_no_module_bears_a_name_of_the_standard_library(name: str) -> None:
    assert list(shadows(ROOT / name)) == []


def test_a_planted_name_is_found(tmp_path: pathlib.Path) -> None:
    for name in ("ours/logging.py", "ours/logs.py", "ours/queue/__init__.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list(shadows(tmp_path)) == ["ours/logging.py", "ours/queue"]


def test_both_packages_are_found_where_they_are_written() -> None:
    found = {
        path.parent.name for name in SOURCE_ROOTS for path in (ROOT / name).glob("*/__init__.py")
    }
    assert found == {"chatmodel_operator", "chatmodel_runtime"}
