"""The page of every reason, `docs/reasons.md`, written from `reasons_explained`.

Run by `make generate` as `python -m chatmodel_operator.api.reasons_page`, with --check by
`make check`.
"""

from chatmodel_operator.api import pages
from chatmodel_operator.api.reasons import Class
from chatmodel_operator.api.reasons_explained import EXPLANATIONS


def build_page() -> str:
    """Return `docs/reasons.md`."""
    lines = [
        "# Reasons",
        "",
        "Every reason in conditions, events and revisions. Generated from"
        " `operator/chatmodel_operator/api/reasons_explained.py`.",
    ]
    for klass in Class:
        lines += [
            "",
            f"## {klass.value}",
            "",
            "| reason | meaning | what to do |",
            "| --- | --- | --- |",
        ]
        lines += [
            f"| `{reason}` | {row.meaning} | {row.cure} |"
            for reason, row in EXPLANATIONS.items()
            if row.klass is klass
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page, or with --check say whether it is in step."""
    pages.keep_in_step(build_page(), "docs/reasons.md", "chatmodel_operator.api.reasons_page")


if __name__ == "__main__":
    main()
