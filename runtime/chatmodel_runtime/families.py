"""Every metric of `/metrics`: name, meaning, labels with all their values; what spans keep. Pure.

`metrics` builds them, `metrics_page` writes `docs/metrics.md` of them. Label sets are closed:
nothing of a request ever becomes a label.
"""

import dataclasses
from typing import Literal, get_args

Kind = Literal["counter", "gauge", "histogram", "summary", "info"]
State = Literal["starting", "ready", "failed"]
Outcome = Literal["stop", "length", "cancelled", "deadline", "failed"]
Refusal = Literal[
    "no_key",
    "body_invalid",
    "body_too_large",
    "body_too_slow",
    "not_ready",
    "queue_full",
    "too_often",
    "prompt_too_long",
]
OTHER = "other"  # whatever is none of our routes
ROUTES = ("/", "/health", "/ready", "/triage", "/v1/chat/completions", "/v1/models", OTHER)
STATUSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
# From a mock's milliseconds to a large model on a small machine.
LONG = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclasses.dataclass(frozen=True)
class Family:
    """One metric; `alias` is the name that dashboards for vLLM ask for."""

    name: str  # of a counter without `_total`, of an info without `_info`
    kind: Kind
    meaning: str
    labels: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    alias: str = ""

    @property
    def exposed(self) -> str:
        """The name as a query has it."""
        return self.name + _SUFFIXES.get(self.kind, "")

    @property
    def exposed_alias(self) -> str:
        """The alias as a query has it, or nothing."""
        return self.alias and self.alias + _SUFFIXES.get(self.kind, "")


_SUFFIXES: dict[str, str] = {"counter": "_total", "info": "_info"}

REQUESTS = Family(
    "chatmodel_requests",
    "counter",
    "Answers on the public port, by route and class of status.",
    {"route": ROUTES, "status": STATUSES},
)
REQUEST_SECONDS = Family(
    "chatmodel_request_duration_seconds",
    "histogram",
    "From a request's head to the last byte of its answer.",
    {"route": ROUTES},
    LONG,
)
REFUSED = Family(
    "chatmodel_requests_refused",
    "counter",
    "Requests refused before anything was generated, by reason.",
    {"reason": get_args(Refusal)},
)
GENERATIONS = Family(
    "chatmodel_generations",
    "counter",
    "Generations by how they ended; cancelled: nobody waited any more.",
    {"outcome": get_args(Outcome)},
    alias="vllm:request_success",
)
GENERATION_SECONDS = Family(
    "chatmodel_generation_seconds",
    "histogram",
    "From the entrance of the queue to the end of a finished answer.",
    buckets=LONG,
    alias="vllm:e2e_request_latency_seconds",
)
QUEUE_SECONDS = Family(
    "chatmodel_queue_seconds",
    "histogram",
    "In the queue, of generations whose turn came.",
    buckets=LONG,
    alias="vllm:request_queue_time_seconds",
)
FIRST_TOKEN_SECONDS = Family(
    "chatmodel_time_to_first_token_seconds",
    "histogram",
    "From the entrance of the queue to the first token.",
    buckets=LONG,
    alias="vllm:time_to_first_token_seconds",
)
BETWEEN_SECONDS = Family(
    "chatmodel_inter_token_latency_seconds",
    "histogram",
    "Between two steps of the engine that gave a generation tokens.",
    buckets=SHORT,
    alias="vllm:inter_token_latency_seconds",
)
TOKEN_SECONDS = Family(
    "chatmodel_time_per_output_token_seconds",
    "histogram",
    "The mean of a finished answer's tokens but the first.",
    buckets=SHORT,
    alias="vllm:request_time_per_output_token_seconds",
)
PROMPT_TOKENS = Family(
    "chatmodel_prompt_tokens",
    "counter",
    "Tokens of prompts, once their first token was generated.",
    alias="vllm:prompt_tokens",
)
GENERATED_TOKENS = Family(
    "chatmodel_generation_tokens",
    "counter",
    "Tokens generated, thinking included.",
    alias="vllm:generation_tokens",
)
RUNNING = Family(
    "chatmodel_requests_running",
    "gauge",
    "Generations under way.",
    alias="vllm:num_requests_running",
)
WAITING = Family(
    "chatmodel_requests_waiting",
    "gauge",
    "Requests in the queue.",
    alias="vllm:num_requests_waiting",
)
ENGINE_STATE = Family(
    "chatmodel_engine_state",
    "gauge",
    "1 for the state that the engine is in.",
    {"state": get_args(State)},
)
ENGINE_STEPS = Family(
    "chatmodel_engine_step_seconds",
    "summary",
    "Steps of the engine: how many, and the time of all.",
)
ENGINE_STEP = Family(
    "chatmodel_engine_current_step_seconds",
    "gauge",
    "What the step under way has taken so far; 0 between steps.",
)
LOAD_SECONDS = Family(
    "chatmodel_model_load_seconds",
    "gauge",
    "From the start of loading to the first real answer; 0 until then.",
)
INFO = Family(
    "chatmodel_runtime",
    "info",
    "What this process serves, and as which revision.",
    {"mode": (), "engine": (), "model_id": (), "revision": ()},  # of the configuration
)
FAMILIES = tuple(value for value in list(globals().values()) if isinstance(value, Family))
# vLLM's words for how a generation ended; it has none for a deadline.
FINISHED_REASONS = {"stop": "stop", "length": "length", "cancelled": "abort", "failed": "error"}
# What of a request's span may leave the process, see `spans`.
SPAN_ATTRIBUTES = (
    "http.request.method",  # of a closed set: FastAPI says _OTHER for what is no method
    "http.route",
    "http.response.status_code",
    "url.scheme",
    "network.protocol.version",
    "error.type",
)
