"""What of a request's span leaves the process: a short list, made anew whatever was in the span.

Imported by `tracing` when traces are asked for, and the only importer of OpenTelemetry's SDK. A
path, a query string, a host or an address may name a patient; so may a text of an error, and the
trace state that a client sends. None of them is on the list.
"""

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, Status

from chatmodel_runtime.families import SPAN_ATTRIBUTES


class OnlyKept(SpanExporter):
    """Passes on copies of spans that hold what may leave."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export the copies."""
        return self._exporter.export([_copy(span) for span in spans])

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self._exporter.force_flush(timeout_millis)


def build_provider(
    service: str,
    exporter: SpanExporter,
    processor: type[SpanProcessor] = BatchSpanProcessor,
) -> TracerProvider:
    """Return what makes spans and sends them, filtered, to the exporter."""
    named = OTELResourceDetector().detect()  # OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
    resource = Resource.create({"service.name": service}).merge(named)
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor(OnlyKept(exporter)))  # type: ignore[call-arg]
    return provider


def build_exporter() -> SpanExporter:
    """Return the exporter to the collector of the environment."""
    return OTLPSpanExporter()


def _copy(span: ReadableSpan) -> ReadableSpan:
    given = span.attributes or {}
    kept = {key: given[key] for key in SPAN_ATTRIBUTES if key in given}
    words = [str(kept[key]) for key in ("http.request.method", "http.route") if key in kept]
    return ReadableSpan(
        name=" ".join(words) or "HTTP",
        context=_without_state(span.context),
        parent=_without_state(span.parent),
        resource=span.resource,
        attributes=kept,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _without_state(context: SpanContext | None) -> SpanContext | None:
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)
