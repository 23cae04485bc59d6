"""The page of the operator's metrics, `docs/operator-metrics.md`, written from a scrape of none.

Run by `make generate` as `python -m chatmodel_operator.metrics_page`, with --check by `make check`.
"""

from chatmodel_operator.api import pages
from chatmodel_operator.metrics import Metrics, Sources

HEAD = """# Metrics of the operator

`GET /metrics` on the port that `healthPort` of its settings names, in Prometheus' text format.
Generated from `operator/chatmodel_operator/metrics.py`. Labels come from closed sets; namespace and
name are in the series about a ChatModel only.

`reconcile_cpu` is the CPU of passes themselves: reading what is known, planning, rendering,
comparing. Their requests, watches, TLS and verification are in `process_cpu_seconds_total` alone.

| metric | kind | meaning |
| --- | --- | --- |
"""
TAIL = """
Beside them `process_resident_memory_bytes`, `process_cpu_seconds_total` and the other `process_`
metrics that every Prometheus client has.
"""


def build_page() -> str:
    """Return `docs/operator-metrics.md`."""
    idle = Sources(list, lambda: 0, lambda: False, lambda: 0, lambda: 0)
    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} |"
        f" {family.documentation} |\n"
        for family in Metrics(idle).families()
        if family.name.startswith("chatmodel_")
    ]
    return HEAD + "".join(rows) + TAIL


def main() -> None:
    """Write the page, or with --check say whether it is in step."""
    pages.keep_in_step(build_page(), "docs/operator-metrics.md", "chatmodel_operator.metrics_page")


if __name__ == "__main__":
    main()
