"""The script that plants bugs finds some of them; `make seeded-bugs` plants them all."""

import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).with_name("seeded_bugs.py")


def run(*names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *names]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_planted_bugs_are_found() -> None:
    done = run("traffic by Ready alone", "children of a dying parent")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 found" in done.stdout


def test_a_bug_that_is_not_in_the_list_is_no_success() -> None:
    assert run("no such bug").returncode == 1
