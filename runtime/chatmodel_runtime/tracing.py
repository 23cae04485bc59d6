"""Whether requests are traced: by FastAPI itself, when OpenTelemetry's environment says where to.

Called by `commands`. Without `OTEL_EXPORTER_OTLP_ENDPOINT` (or its form for traces) nothing of
OpenTelemetry's SDK is imported. FastAPI's own settings would export paths, query strings and texts
of errors, so they are off unless what leaves goes through `spans`. Metrics and logs of
OpenTelemetry stay off: `/metrics` and standard output have them.
"""

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi.telemetry import TelemetryConfig

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)
OFF = TelemetryConfig(
    tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False
)
CLOSE_SECONDS = 3.0  # for the last spans; a collector that hangs does not hold up the end


class Tracing:
    """What FastAPI is told, and the end of it."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self.telemetry = OFF
        if provider is not None:
            self.telemetry = OFF | TelemetryConfig(tracing=True, tracer_provider=provider)

    def close(self) -> None:
        """Send the last spans; blocks for at most `CLOSE_SECONDS`."""
        if self._provider is not None:
            ending = threading.Thread(target=self._provider.shutdown, daemon=True)
            ending.start()
            ending.join(CLOSE_SECONDS)


def choose(env: Mapping[str, str], service: str) -> Tracing:
    """Return the tracing that the environment asks for; `service` names it unless that does."""
    if not is_asked_for(env):
        return Tracing()
    if env.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf") != "http/protobuf":
        logger.warning("not traced: OTEL_EXPORTER_OTLP_PROTOCOL can only be http/protobuf here")
        return Tracing()
    try:
        from chatmodel_runtime import spans
    except ImportError:
        logger.warning("not traced: OTEL_EXPORTER_OTLP_ENDPOINT needs the extra `otel`")
        return Tracing()
    return Tracing(spans.build_provider(service, spans.build_exporter()))


def is_asked_for(env: Mapping[str, str]) -> bool:
    """Say whether the standard variables name a collector, and do not turn traces off."""
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if env.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(env.get(name) for name in names)
