"""What Prometheus is told: /metrics of the operator. The only module that knows prometheus_client.

`handlers` makes one and hands its `count_…` functions to whoever has something to count. What can
be read off at the moment of a scrape is: the state of ChatModels comes from the cache, so that
there is nothing to keep in step and the series of a deleted ChatModel are gone. Labels come from
closed sets; names appear in the series about a ChatModel only, model ids nowhere.
"""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Callable, Iterable, Iterator

import prometheus_client
from prometheus_client import core, registry

from chatmodel_operator.api_client import place_of
from chatmodel_operator.cache import Object
from chatmodel_operator.records import Outcome

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
STATUSES = ("True", "False", "Unknown")
RESULTS = ("success", "conflict", "rejected", "unavailable", "error")
OUTCOMES = ("completed", "rolled_back", "failed")
PASS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)
ROLLOUT_BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1200, 2400, 4800, 9600)


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where a scrape reads what need not be counted."""

    chatmodels: Callable[[], list[Object]]
    queue_depth: Callable[[], int]
    is_leading: Callable[[], bool]
    reconnects: Callable[[], int]
    slowed: Callable[[], int]


class Metrics:
    """The operator's series, in a registry of their own."""

    def __init__(self, sources: Sources) -> None:
        # One more series for each counter, and nobody reads it.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._registry.register(_Scraped(sources))
        self._passes = prometheus_client.Counter(
            "chatmodel_operator_reconcile",
            "Passes over a ChatModel, by how they ended.",
            ["result"],
            registry=self._registry,
        )
        self._pass_seconds = prometheus_client.Histogram(
            "chatmodel_operator_reconcile_duration_seconds",
            "How long passes took.",
            buckets=PASS_BUCKETS,
            registry=self._registry,
        )
        self._pass_cpu = prometheus_client.Counter(
            "chatmodel_operator_reconcile_cpu_seconds",
            "CPU of passes themselves: what they wait for, their requests too, is left out.",
            registry=self._registry,
        )
        self._requests = prometheus_client.Counter(
            "chatmodel_operator_api_requests",
            "Requests to the API server, without watches; code none: no answer.",
            ["verb", "kind", "code"],
            registry=self._registry,
        )
        self._rollouts = prometheus_client.Counter(
            "chatmodel_rollouts",
            "Verdicts written by this operator process.",
            ["result"],
            registry=self._registry,
        )
        self._rollout_seconds = prometheus_client.Histogram(
            "chatmodel_rollout_duration_seconds",
            "From the start of a rollout to its verdict, the bake included.",
            ["result"],
            buckets=ROLLOUT_BUCKETS,
            registry=self._registry,
        )
        for result in RESULTS:
            self._passes.labels(result)
        for result in OUTCOMES:
            self._rollouts.labels(result)
            self._rollout_seconds.labels(result)

    def count_pass(self, result: str, seconds: float) -> None:
        """Count a pass that is over."""
        self._passes.labels(result).inc()
        self._pass_seconds.observe(seconds)

    def count_pass_cpu(self, seconds: float) -> None:
        """Count the CPU of a pass that is over."""
        self._pass_cpu.inc(seconds)

    def count_request(self, method: str, path: str, code: int | None) -> None:
        """Count a request to the API server; no code means that there was no answer."""
        place = place_of(path)
        kind = place.kind if place is not None else "other"
        is_named = place is not None and place.name is not None
        verb = VERBS.get(method, "get" if is_named else "list")
        self._requests.labels(verb, kind, "none" if code is None else str(code)).inc()

    def count_rollout(self, outcome: Outcome) -> None:
        """Count a verdict that has been written."""
        self._rollouts.labels(outcome.result).inc()
        self._rollout_seconds.labels(outcome.result).observe(outcome.seconds)

    def families(self) -> Iterable[core.Metric]:
        """Return everything as it is now, for the page of metrics."""
        return self._registry.collect()

    def render(self) -> bytes:
        """Return the text of a scrape; a thread may do it, since cached objects never change."""
        return prometheus_client.generate_latest(self._registry)


class _Scraped(registry.Collector):
    """The series that are made anew at each scrape."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> Iterable[core.Metric]:
        return []  # registering must not read a cache that is not there yet

    def collect(self) -> Iterator[core.Metric]:
        sources = self._sources
        yield core.GaugeMetricFamily(
            "chatmodel_operator_queue_depth", "Keys that wait for a pass.", sources.queue_depth()
        )
        yield core.GaugeMetricFamily(
            "chatmodel_operator_leader",
            "1 for the operator that works, 0 for one that stands by.",
            float(sources.is_leading()),
        )
        yield core.CounterMetricFamily(
            "chatmodel_operator_watch_reconnects",
            "Watches that were opened again.",
            sources.reconnects(),
        )
        yield core.CounterMetricFamily(
            "chatmodel_operator_watch_slowed",
            "Lists and watches that had to wait because there were too many.",
            sources.slowed(),
        )
        yield _build_info()
        yield from chatmodel_families(sources.chatmodels())


def _build_info() -> core.Metric:
    build = core.GaugeMetricFamily(
        "chatmodel_operator_build_info", "What is running.", labels=["version", "python"]
    )
    build.add_metric([_version(), platform.python_version()], 1)
    return build


def _version() -> str:
    try:
        return importlib.metadata.version("chatmodel-operator")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def chatmodel_families(chatmodels: Iterable[Object]) -> Iterator[core.Metric]:
    """Yield what the statuses of ChatModels say, as kube-state-metrics would."""
    where = ["namespace", "name"]
    conditions = core.GaugeMetricFamily(
        "chatmodel_status_condition",
        "1 for the status that a condition has.",
        labels=[*where, "type", "status"],
    )
    replicas = core.GaugeMetricFamily(
        "chatmodel_replicas",
        "Pods: wanted by the spec, there for the serving revision, and ready.",
        labels=[*where, "state"],
    )
    info = core.GaugeMetricFamily(
        "chatmodel_info",
        "What serves; no revision when nothing does.",
        labels=[*where, "mode", "revision"],
    )
    for chatmodel in chatmodels:
        meta, status = chatmodel["metadata"], chatmodel.get("status") or {}
        here = [meta["namespace"], meta["name"]]
        for condition in status.get("conditions") or []:
            for word in STATUSES:
                value = float(condition["status"] == word)
                conditions.add_metric([*here, condition["type"], word.lower()], value)
        wanted = (chatmodel.get("spec") or {}).get("replicas", 1)
        replicas.add_metric([*here, "wanted"], wanted)
        replicas.add_metric([*here, "current"], status.get("replicas", 0))
        replicas.add_metric([*here, "ready"], status.get("readyReplicas", 0))
        serving = status.get("serving") or {}
        info.add_metric([*here, serving.get("mode", ""), serving.get("revision", "")], 1)
    yield from (conditions, replicas, info)
