"""Errors made at the edge to the API server, once, with verb, kind and name.

ClusterError
├── Conflict       the object moved or its name is taken: look again soon
├── Rejected       the server said no (400, 403, 404, 422): say so, wait for a change
└── Unavailable    the server did not answer, or asked us to wait: back off
"""


class ClusterError(Exception):
    """A request to the API server failed; `str()` names verb, kind, namespace/name and why."""

    def __init__(self, what: str, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{what}: {message}")
        self.what = what
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class Conflict(ClusterError):
    """409: the object has moved since it was read, or exists already."""


class Rejected(ClusterError):
    """The server refused for a reason that repeating does not change."""


class Unavailable(ClusterError):
    """Time-out, connection error, 429 or 5xx; `retry_after` is the server's wish in seconds."""
