"""Who changes our objects back as often as we mend them: counted, so that it is told, not fought.

Used by `reconcile`. Pure; time is an argument. What it remembers only slows writes down: without
it everything would be mended once more.
"""

import collections
import hashlib
import json
from collections.abc import Mapping
from typing import Any

Ref = tuple[str, str, str]  # kind, namespace, name

MOST_REPAIRS, WINDOW_SECONDS = 5, 600.0
REMEMBERED = 10_000


class Drift:
    """The repairs of each object: applies of what had been applied before, unchanged."""

    def __init__(self) -> None:
        self._digests: collections.OrderedDict[Ref, str] = collections.OrderedDict()
        self._repairs: dict[Ref, collections.deque[float]] = {}

    def note(self, ref: Ref, manifest: Mapping[str, Any], now: float) -> None:
        """Note that an object that exists was applied; another manifest starts the count anew."""
        text = json.dumps(manifest, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if self._digests.get(ref) == digest:
            repairs = self._repairs.setdefault(ref, collections.deque(maxlen=MOST_REPAIRS))
            repairs.append(now)
        else:
            self._repairs.pop(ref, None)
        self._digests[ref] = digest
        self._digests.move_to_end(ref)
        if len(self._digests) > REMEMBERED:
            oldest, _ = self._digests.popitem(last=False)
            self._repairs.pop(oldest, None)

    def wait(self, ref: Ref, now: float) -> float:
        """Return the seconds until an object may be mended again; 0 when it may be now."""
        repairs = self._repairs.get(ref)
        if repairs is None or len(repairs) < MOST_REPAIRS:
            return 0.0
        return max(0.0, repairs[0] + WINDOW_SECONDS - now)
