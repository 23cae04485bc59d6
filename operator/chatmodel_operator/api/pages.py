"""Pages of docs/ that are generated: written anew, or with --check held against what there is.

Called by `reasons_page` and `metrics_page`, which `make generate` and `make check` run.
"""

import argparse
import pathlib
import sys


def keep_in_step(page: str, path: str, module: str) -> None:
    """Write a page, or with --check end with exit code 1 when it is another than the one there."""
    parser = argparse.ArgumentParser(description=f"Write {path}.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(path))
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    args = parser.parse_args()
    if not args.check:
        args.out.write_text(page)
    elif not args.out.exists() or args.out.read_text() != page:
        sys.exit(f"{args.out} is not in step: run python -m {module}")
