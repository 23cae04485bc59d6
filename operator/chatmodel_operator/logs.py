"""Which ChatModel a log line is about, as a field of its own.

Whatever is logged during a pass, or by what a pass has started, carries namespace and name: in
JSON as `object`, which is how kopf names the objects in its own lines. Used by `workqueue`, which
knows the key, and `handlers`, which knows where lines go. Never holds anything but names.
"""

import contextlib
import contextvars
import logging
from collections.abc import Iterator

_subject: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar(
    "chatmodel", default=None
)


@contextlib.contextmanager
def about(namespace: str, name: str) -> Iterator[None]:
    """Have the lines within, and of tasks begun within, say which ChatModel they are about."""
    token = _subject.set((namespace, name))
    try:
        yield
    finally:
        _subject.reset(token)


def add_subject(record: logging.LogRecord) -> bool:
    """Add the object to a line that has none; a filter for log handlers, which keeps every line."""
    subject = _subject.get()
    if subject is not None and not hasattr(record, "k8s_ref"):
        namespace, name = subject
        record.k8s_ref = {"kind": "ChatModel", "namespace": namespace, "name": name}
    return True
