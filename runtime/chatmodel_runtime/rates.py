"""How often the requests of one key may come. Knows no HTTP; the time is an argument.

Called by `gates`.
"""

import math

MOST_OWNERS = 1024  # before those are forgotten who may ask as if they never had


class TooOften(Exception):
    """A key has used up its requests; `retry_after` is when the next is allowed, in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests of one key, try again in {retry_after} s")
        self.retry_after = retry_after


class Rates:
    """So many requests a minute for each owner: at once or spread, they grow back evenly."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._a_second = per_minute / 60
        # owner → (requests left, when that was counted)
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, owner: str, now: float) -> None:
        """Count a request; `now` in seconds of any clock that only goes on. Raises `TooOften`."""
        left = self._count(owner, now)
        if left < 1:
            raise TooOften(math.ceil((1 - left) / self._a_second))
        if len(self._left) >= MOST_OWNERS and owner not in self._left:
            self._left = {
                known: entry
                for known, entry in self._left.items()
                if self._count(known, now) < self._most
            }
        self._left[owner] = (left - 1, now)

    def _count(self, owner: str, now: float) -> float:
        left, then = self._left.get(owner, (self._most, now))
        return min(self._most, left + (now - then) * self._a_second)
