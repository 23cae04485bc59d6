"""What Prometheus is told: `/metrics` of the management port. The only one to know its client.

`scheduling` counts here what becomes of generations, `measuring` what becomes of requests; where
the engine stands is read at the moment of a scrape. Every series exists from the start. Nothing
here waits or does I/O: it is called for each token.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator

import prometheus_client
from prometheus_client import core, registry

from chatmodel_runtime import families
from chatmodel_runtime.engines import Pulse
from chatmodel_runtime.families import Family, Outcome, Refusal, State

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST


@dataclasses.dataclass(frozen=True)
class Identity:
    """Who serves what, for the life of the process."""

    mode: str = ""
    engine: str = ""
    model_id: str = ""
    revision: str = ""


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where a scrape reads what need not be counted."""

    state: Callable[[], State]
    running: Callable[[], int]
    waiting: Callable[[], int]
    pulse: Pulse


class Metrics:
    """The numbers of one process."""

    def __init__(self, identity: Identity | None = None) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        who = identity or Identity()
        self._registry = registry.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._requests = _Counters(families.REQUESTS, self._registry)
        self._refused = _Counters(families.REFUSED, self._registry)
        self._seconds = {
            route: made.labels(route)
            for made in [_histogram(families.REQUEST_SECONDS, self._registry)]
            for route in families.ROUTES
        }
        self.generations = _Counters(families.GENERATIONS, self._registry)
        self.whole = _histogram(families.GENERATION_SECONDS, self._registry)
        self.queue = _histogram(families.QUEUE_SECONDS, self._registry)
        self.first = _histogram(families.FIRST_TOKEN_SECONDS, self._registry)
        self.between = _histogram(families.BETWEEN_SECONDS, self._registry)
        self.per_token = _histogram(families.TOKEN_SECONDS, self._registry)
        self.prompt_tokens = _Counters(families.PROMPT_TOKENS, self._registry)
        self.tokens = _Counters(families.GENERATED_TOKENS, self._registry)
        self._load = _gauge(families.LOAD_SECONDS, self._registry)
        info = prometheus_client.Info(
            families.INFO.name, families.INFO.meaning, registry=self._registry
        )
        info.info(dataclasses.asdict(who))
        self._model_id = who.model_id

    def watch(self, sources: Sources) -> None:
        """Read the engine's state from there at each scrape."""
        _gauge(families.RUNNING, self._registry).set_function(sources.running)
        _gauge(families.WAITING, self._registry).set_function(sources.waiting)
        _gauge(families.ENGINE_STEP, self._registry).set_function(sources.pulse.seconds)
        states = _gauge(families.ENGINE_STATE, self._registry)
        for state in families.ENGINE_STATE.labels["state"]:
            states.labels(state).set_function(functools.partial(_is, sources.state, state))
        self._registry.register(_Steps(sources.pulse))

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """A request of one of `families.ROUTES` was answered."""
        self._requests.add(route, families.STATUSES[status // 100 - 1])
        self._seconds[route].observe(seconds)

    def count_refusal(self, reason: Refusal) -> None:
        """A request was refused before anything was generated."""
        self._refused.add(reason)

    def set_load_seconds(self, seconds: float) -> None:
        """The model is loaded and has answered."""
        self._load.set(seconds)

    def begin(self) -> "Watch":
        """A request is let into the queue."""
        return Watch(self)

    def expose(self) -> bytes:
        """Return the body of `/metrics`, vLLM's names last."""
        own = list(self._registry.collect())
        body: bytes = prometheus_client.generate_latest(_Collected(own))
        renamed = list(_rename(own, self._model_id))
        return body + prometheus_client.generate_latest(_Collected(renamed))


class Watch:
    """The times of one generation."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._entered = time.monotonic()
        self._first = self._last = 0.0
        self._tokens = self._first_tokens = 0
        self._is_over = False

    def start(self) -> None:
        """Its turn has come."""
        self._metrics.queue.observe(time.monotonic() - self._entered)

    def note(self, prompt_tokens: int, tokens: int) -> None:
        """The engine has made a step; so many tokens are there by now."""
        new = tokens - self._tokens
        if new <= 0:
            return
        now = time.monotonic()
        if self._tokens == 0:
            self._first, self._first_tokens = now, tokens
            self._metrics.first.observe(now - self._entered)
            self._metrics.prompt_tokens.add(by=prompt_tokens)
        else:
            self._metrics.between.observe(now - self._last)
        self._metrics.tokens.add(by=new)
        self._last, self._tokens = now, tokens

    def end(self, outcome: Outcome) -> None:
        """It has ended; only the first end counts."""
        if self._is_over:
            return
        self._is_over = True
        self._metrics.generations.add(outcome)
        if outcome in ("stop", "length"):
            self._metrics.whole.observe(time.monotonic() - self._entered)
            rest = self._tokens - self._first_tokens
            if rest > 0:
                self._metrics.per_token.observe((self._last - self._first) / rest)


class _Counters:
    """A counter whose series are all made beforehand."""

    def __init__(self, family: Family, into: registry.CollectorRegistry) -> None:
        made = prometheus_client.Counter(
            family.name, family.meaning, list(family.labels), registry=into
        )
        self._series = {
            values: made.labels(*values) if values else made for values in _products(family)
        }

    def add(self, *values: str, by: int = 1) -> None:
        """Count one more, or so many."""
        self._series[values].inc(by)


def _is(read: Callable[[], State], state: str) -> float:
    return float(read() == state)


def _products(family: Family) -> list[tuple[str, ...]]:
    return list(itertools.product(*family.labels.values()))


def _histogram(family: Family, into: registry.CollectorRegistry) -> prometheus_client.Histogram:
    return prometheus_client.Histogram(
        family.name, family.meaning, list(family.labels), registry=into, buckets=family.buckets
    )


def _gauge(family: Family, into: registry.CollectorRegistry) -> prometheus_client.Gauge:
    return prometheus_client.Gauge(family.name, family.meaning, list(family.labels), registry=into)


class _Steps(registry.Collector):
    """The engine's steps, as its thread counts them."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse

    def collect(self) -> Iterator[core.Metric]:
        """Yield the summary."""
        family = families.ENGINE_STEPS
        made = core.SummaryMetricFamily(family.name, family.meaning)
        made.add_metric([], self._pulse.steps, self._pulse.spent)
        yield made


class _Collected(registry.Collector):
    """Metrics that were collected already."""

    def __init__(self, collected: list[core.Metric]) -> None:
        self._collected = collected

    def collect(self) -> list[core.Metric]:
        """Return them."""
        return self._collected


def _rename(own: list[core.Metric], model_id: str) -> Iterator[core.Metric]:
    """Yield what dashboards for vLLM know, under its names and with its label."""
    aliases = {family.name: family.alias for family in families.FAMILIES if family.alias}
    for metric in own:
        alias = aliases.get(metric.name)
        if alias is None:
            continue
        made = core.Metric(alias, metric.documentation, metric.type)
        for sample in metric.samples:
            labels = {"model_name": model_id} | sample.labels
            outcome = labels.pop("outcome", None)
            if outcome is not None:
                if outcome not in families.FINISHED_REASONS:
                    continue
                labels["finished_reason"] = families.FINISHED_REASONS[outcome]
            name = alias + sample.name.removeprefix(metric.name)
            made.add_sample(name, labels, sample.value)
        yield made
