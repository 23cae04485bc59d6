"""How far a staging is: for `/progress`, and in the log.

Filled by `model_manager` and `receiving`, read by `management` and `commands` from other threads.
"""

import dataclasses
import pathlib
import threading
import time
from typing import Any


@dataclasses.dataclass
class Progress:
    """How far a staging is; read by another thread."""

    commit: str
    phase: str = "listing"
    total_bytes: int = 0
    finished_bytes: int = 0
    found_bytes: int = 0
    folder: pathlib.Path | None = None
    started: float = dataclasses.field(default_factory=time.monotonic)

    def begin(self, total_bytes: int, found_bytes: int, folder: pathlib.Path) -> None:
        """Note what there is to fetch, and what of it an earlier try has left in the folder."""
        self.total_bytes, self.found_bytes = total_bytes, found_bytes
        self.phase, self.folder, self.started = "downloading", folder, time.monotonic()

    def finish(self, size: int) -> None:
        """Note that another file is there and right."""
        self.finished_bytes += size

    def read(self) -> dict[str, Any]:
        """Return the body of `/progress`; a file under way counts with what is on disk of it."""
        done = self.finished_bytes
        if self.folder is not None:
            done += sum(_size(part) for part in self.folder.glob("*.part"))
        done = min(done, self.total_bytes)
        # What was there already says nothing of how fast the rest comes.
        fetched = max(0, done - self.found_bytes)
        speed = fetched / max(time.monotonic() - self.started, 0.001)
        left = (self.total_bytes - done) / speed if speed else None
        if self.total_bytes and done == self.total_bytes:
            left = 0.0
        return {
            "phase": self.phase,
            "totalBytes": self.total_bytes,
            "doneBytes": done,
            "bytesPerSecond": int(speed),
            "etaSeconds": None if left is None else round(left, 1),
            "commit": self.commit,
        }


def _size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it got its name meanwhile
        return 0


class Reporter(threading.Thread):
    """Says on standard output how far a staging is: one line for every ten percent."""

    def __init__(self, progress: Progress, say: Any) -> None:
        super().__init__(daemon=True)
        self._progress = progress
        self._say = say
        self.finished = threading.Event()

    def run(self) -> None:
        """Look twice a second until finished."""
        last = -1
        while not self.finished.wait(0.5):
            seen = self._progress.read()
            tenth = seen["doneBytes"] * 10 // max(seen["totalBytes"], 1)
            if tenth != last and seen["totalBytes"]:
                self._say(seen)
                last = tenth
