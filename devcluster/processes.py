"""The cluster's daemons: started once, known by pid and start time, ended only if they are ours.

A pid alone may have been given to another program since; a pid with its start time may not.
"""

import json
import os
import pathlib
import signal
import time
from collections.abc import Iterable, Sequence

from devcluster.shell import in_namespace


def start_time(pid: int) -> int | None:
    """Return a process's start in clock ticks since boot; None when it is gone or a zombie."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


class Daemons:
    """The daemons recorded in one folder."""

    def __init__(self, run: pathlib.Path, log: pathlib.Path) -> None:
        self._run = run
        self._log = log

    def names(self) -> list[str]:
        """Return the names of all that were started and not stopped."""
        return sorted(path.stem for path in self._run.glob("*.json"))

    def pid(self, name: str) -> int | None:
        """Return the pid of a daemon that is alive and still the one we started."""
        try:
            record = json.loads((self._run / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        alive = start_time(record["pid"]) == record["started"]
        return int(record["pid"]) if alive else None

    def start(
        self, name: str, namespace: str | None, command: Sequence[str | pathlib.Path]
    ) -> None:
        """Start a daemon unless it is alive, in a network namespace or in the machine's own."""
        if self.pid(name) is not None:
            return
        self._run.mkdir(parents=True, exist_ok=True)
        self._log.mkdir(parents=True, exist_ok=True)
        words = [*(in_namespace(namespace) if namespace else []), *map(str, command)]
        log = str(self._log / f"{name}.log")
        pid = os.posix_spawnp(
            words[0],
            words,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        record = {"pid": pid, "started": start_time(pid)}
        temporary = self._run / f".{name}"
        temporary.write_text(json.dumps(record))
        temporary.replace(self._run / f"{name}.json")

    def stop(self, names: Iterable[str], seconds: float = 5.0) -> None:
        """Ask daemons to end, wait for all of them together, then insist."""
        wanted = list(names)
        for name in wanted:
            self._signal(name, signal.SIGTERM)
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(self.pid(name) for name in wanted):
            time.sleep(0.05)
        for name in wanted:
            self._signal(name, signal.SIGKILL)
            (self._run / f"{name}.json").unlink(missing_ok=True)

    def _signal(self, name: str, number: int) -> None:
        if (pid := self.pid(name)) is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return

    def tail(self, name: str, lines: int = 5) -> str:
        """Return the last lines of a daemon's log."""
        path = self._log / f"{name}.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])
