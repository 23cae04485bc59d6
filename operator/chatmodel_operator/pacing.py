"""A token bucket: so many at once, so many a second afterwards. Pure; time is an argument.

Used by `workqueue` for passes and by `watches` for reconnects.
"""


class Bucket:
    """Full at the beginning; what is taken from an empty one has to wait."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def take(self, now: float) -> float:
        """Take one token and return the seconds to wait before using it."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)
