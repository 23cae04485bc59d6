"""No Python file of the repository has more lines than a reader can keep in mind."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
MOST_LINES = 300


def too_long(root: pathlib.Path) -> list[str]:
    """Return the tracked Python files under a folder that have too many lines."""
    command = ["git", "ls-files", "-z", "*.py"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    paths = [root / name for name in listed.split("\0") if name]
    assert paths, f"git tracks no Python file in {root}"
    return [
        path.relative_to(root).as_posix()
        for path in paths
        if path.exists() and len(path.read_text().splitlines()) > MOST_LINES
    ]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout: git tracks nothing here")
def test_no_file_is_too_long() -> None:
    assert too_long(ROOT) == []


def test_a_planted_file_is_found(tmp_path: pathlib.Path) -> None:
    for name, lines in (("short.py", MOST_LINES), ("deep/long.py", MOST_LINES + 1)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("pass\n" * lines)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    assert too_long(tmp_path) == ["deep/long.py"]
