"""The page of every metric, `docs/metrics.md`, written from `families`.

Run by `make generate` as `python -m chatmodel_runtime.metrics_page`, with --check by `make check`.
"""

import argparse
import pathlib
import sys

from chatmodel_runtime.families import FAMILIES, FINISHED_REASONS, SPAN_ATTRIBUTES, Family

HEAD = """# Metrics of the runtime

`GET /metrics` on the management port, 9090, in Prometheus' text format. It needs no key and is in
no Service: scrape pods. Generated from `runtime/chatmodel_runtime/families.py`.

Every series exists from the start and no label ever holds anything of a request: a path that is
none of the routes is `other`. The numbers are those of one process; `chatmodel_runtime_info` says
of which model and revision. Generations for verification and warm-up count as generations, not as
requests.
"""
ALIASES = """
## For dashboards that know vLLM

The same numbers under vLLM's present names, with its label `model_name` (the real model id, or
`mock`). `vllm:time_per_output_token_seconds`, which vLLM itself has dropped, is not among them.

| vLLM's name | is |
| --- | --- |
"""
TAIL = """
`finished_reason` is {reasons}; deadlines are in ours only.

## Of the process

`process_resident_memory_bytes`, `process_cpu_seconds_total`, `process_open_fds` and the other
`process_` metrics that every Prometheus client has.

## Traces

FastAPI's own OpenTelemetry support makes one span of each request on the public port when the extra
`otel` is installed and `OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) is
set; protocol `http/protobuf`. The other standard variables hold too: sampler, headers, resource. A
caller's trace goes on. What leaves the process is the route and these attributes, nothing else:
{attributes}. No path, query string, host, address, header, trace state, event or text of an error
is among them. OpenTelemetry's metrics and logs stay off.

The images have the extra; a standalone server reads the variables from `.env` as well. The operator
sets none in its pods. To trace a cluster, name images of your own under `images`, two lines each:

```
FROM <our image>
ENV OTEL_EXPORTER_OTLP_ENDPOINT=http://collector.tracing.svc:4318
```

The NetworkPolicy of a ChatModel lets its pods reach DNS and the patient API alone. Policies add up:
one of yours, for pods with the label `carepath.ai/role: serve`, has to let the collector through.
Spans name the ChatModel (`service.name`), and are dropped while the collector cannot be reached.
"""


def build_page() -> str:
    """Return `docs/metrics.md`."""
    lines = ["", "| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{family.exposed}` | {family.kind} | {_labels(family)} | {family.meaning} |"
        for family in FAMILIES
    ]
    aliases = [
        f"| `{family.exposed_alias}` | `{family.exposed}` |" for family in FAMILIES if family.alias
    ]
    reasons = ", ".join(f"`{theirs}` for `{ours}`" for ours, theirs in FINISHED_REASONS.items())
    attributes = ", ".join(f"`{name}`" for name in SPAN_ATTRIBUTES)
    return (
        HEAD
        + "\n".join(lines)
        + "\n"
        + ALIASES
        + "\n".join(aliases)
        + "\n"
        + TAIL.format(reasons=reasons, attributes=attributes)
    )


def _labels(family: Family) -> str:
    texts = []
    for name, values in family.labels.items():
        listed = ", ".join(f"`{value}`" for value in values) or "of the configuration"
        texts.append(f"`{name}`: {listed}")
    return "<br>".join(texts)


def main() -> None:
    """Write the page, or with --check say whether it is in step."""
    parser = argparse.ArgumentParser(description="Write docs/metrics.md.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/metrics.md"))
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    args = parser.parse_args()
    page = build_page()
    if not args.check:
        args.out.write_text(page)
    elif args.out.read_text() != page:
        sys.exit(f"{args.out} is not in step: run python -m chatmodel_runtime.metrics_page")


if __name__ == "__main__":
    main()
