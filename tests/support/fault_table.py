"""Write docs/faults.md: which fault is played by which test.

    python tests/support/fault_table.py [--check]

Rows come from fault_rows.py, tests from their marker `fault(...)`, read from the source: nothing is
imported. A marker that names no row, and a row with neither a test nor a reason, are errors.
"""

import argparse
import ast
import pathlib
import sys
from collections.abc import Iterator

from fault_rows import GROUPS, MARKED_ELSEWHERE, NOT_AUTOMATED, ROWS

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/faults.md"
HEAD = """# Faults

What can go wrong, and which test plays it. Written by `python tests/support/fault_table.py` from
the markers of the tests; `make check` compares.

After a fault the tests ask: is the end the same as without it, does the operator write nothing more
when it is poked, was nothing written outside the namespace and nothing deleted by its name alone,
is the log free of errors, did the operator live on.
"""


def find_marks(text: str) -> Iterator[str]:
    """Yield the rows that a file's tests name: in the marker, or as the row of a table's entry."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and name_of(node.func) in ("fault", "Sign", "inspected"):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and argument.value in ROWS:
                    yield str(argument.value)


def find_unknown(text: str) -> list[str]:
    """Return what markers name that is no row."""
    return [
        str(argument.value)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "fault"
        for argument in node.args
        if isinstance(argument, ast.Constant) and argument.value not in ROWS
    ]


def name_of(function: ast.expr) -> str:
    """Return the last part of what is called."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def collect() -> dict[str, list[str]]:
    """Return the files whose tests play each row. Raises `SystemExit` for an unknown row."""
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text, where = path.read_text(), path.relative_to(ROOT / "tests").as_posix()
        if unknown := find_unknown(text):
            sys.exit(f"{where}: there is no row {', '.join(unknown)}")
        for row in set(find_marks(text)):
            found[row].append(where)
    for row, names in MARKED_ELSEWHERE.items():
        for name in names:
            if not (ROOT / "tests" / name).exists():
                sys.exit(f"{row}: there is no tests/{name}")
            found[row].append(name)
    return found


def build_page(found: dict[str, list[str]]) -> str:
    """Return the page. Raises `SystemExit` for a row with neither test nor reason."""
    played = sum(bool(names) for names in found.values())
    lines = [HEAD, f"{played} of {len(ROWS)} rows are played.", ""]
    for letter, title in GROUPS.items():
        lines += [f"## {letter}. {title}", "", "| row | fault | played by |", "| --- | --- | --- |"]
        for row, text in ROWS.items():
            if not row.startswith(letter):
                continue
            names = ", ".join(f"`{name}`" for name in sorted(set(found[row])))
            if not names and row not in NOT_AUTOMATED:
                sys.exit(f"{row} has no test: mark one, or say in fault_rows.py why not")
            lines.append(f"| {row} | {text} | {names or 'not automated: ' + NOT_AUTOMATED[row]} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Write the page, or say that it is out of step."""
    parser = argparse.ArgumentParser(description="Write docs/faults.md.")
    parser.add_argument("--check", action="store_true", help="compare only")
    page = build_page(collect())
    if not parser.parse_args().check:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        sys.exit("docs/faults.md is out of step: run python tests/support/fault_table.py")


if __name__ == "__main__":
    main()
