"""Write docs/incidents.md: which test proves that an incident of the origin cannot come back.

    python tests/support/incident_table.py [--check]

Rows come from incident_rows.py; the tests they name are looked for in the source, so that a test
that was renamed or removed is an error, and so is a row with neither proof nor reason.
"""

import argparse
import ast
import pathlib
import sys
from collections.abc import Mapping

from incident_rows import INCIDENTS, Row

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/incidents.md"
HEAD = """# Incidents

What went wrong when the service was run for which this project was made, and which test proves
that it does not come back. I: where its documents and what happened disagreed; D: other defects.
Written by `python tests/support/incident_table.py`; `make check` compares, and looks for each test.
"""


def is_there(proof: str) -> bool:
    """Say whether a proof exists: a film, or a function of that name in a file of tests."""
    name, _, function = proof.partition("::")
    path = ROOT / "tests" / name
    if not path.is_file() or not function:
        return path.is_file() and path.suffix == ".txt"
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_text())
    return any(isinstance(node, kinds) and node.name == function for node in tree.body)


def build_page(rows: Mapping[str, Row]) -> str:
    """Return the page. Raises `SystemExit` for a proof that is not there, or a row without any."""
    proven = sum(bool(row.proofs) and not row.missing for row in rows.values())
    partly = sum(bool(row.proofs) and bool(row.missing) for row in rows.values())
    lines = [HEAD, f"{proven} of {len(rows)} rows are proven, {partly} more in part.", ""]
    lines += ["| row | what happened | what is here | proof |", "| --- | --- | --- | --- |"]
    for name, row in rows.items():
        for proof in row.proofs:
            if not is_there(proof):
                sys.exit(f"{name}: there is no tests/{proof}")
        if not row.proofs and not row.missing:
            sys.exit(f"{name} has no proof: name a test in incident_rows.py, or say why not")
        cells = [f"`{proof}`" for proof in row.proofs]
        cells += [f"not automated: {row.missing}"] if row.missing else []
        lines.append(f"| {name} | {row.happened} | {row.here} | {'<br>'.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page, or say that it is out of step."""
    parser = argparse.ArgumentParser(description="Write docs/incidents.md.")
    parser.add_argument("--check", action="store_true", help="compare only")
    page = build_page(INCIDENTS)
    if not parser.parse_args().check:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        sys.exit("docs/incidents.md is out of step: run python tests/support/incident_table.py")


if __name__ == "__main__":
    main()
