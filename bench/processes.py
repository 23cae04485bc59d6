"""Servers under measurement: started, awaited, looked at with all their children, ended.

Called by the parts of `make bench-runtime`. Nothing that was started here outlives its block.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

import meters

POLL_SECONDS = 0.02  # what is asked more often is held up by that
SECONDS_TO_END = 15
_PSS = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)


class DidNotStart(Exception):
    """A server that ended, or was not ready in time; the text ends with its log."""


@dataclasses.dataclass(frozen=True)
class Running:
    """A server that is ready; `seconds` is what that took."""

    pid: int
    seconds: float

    def tree(self) -> list[int]:
        """Return its process and all processes below it."""
        return find_tree(self.pid, read_parents())

    def cpu_seconds(self) -> float:
        """Return user and system time of all that are there now."""
        return sum(_of(self.tree(), meters.cpu_seconds))

    def peak_mib(self) -> float:
        """Return the sum of the most that each was resident: pages they share count twice."""
        return sum(_of(self.tree(), lambda pid: meters.memory_mib(pid, "VmHWM")))

    def pss_mib(self) -> float:
        """Return what they hold now, shared pages divided among those who share them."""
        return sum(_of(self.tree(), _pss_mib))


def _of(pids: list[int], measure: "meters.Measure") -> Iterator[float]:
    for pid in pids:
        with contextlib.suppress(OSError):  # it ended in this moment
            yield measure(pid)


def _pss_mib(pid: int) -> float:
    found = _PSS.search(pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text())
    return int(found[1]) / 1024 if found else 0.0


def read_parents() -> dict[int, int]:
    """Return the parent of every process of the machine that has not ended."""
    parents = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":  # that one only waits to be asked how it ended
                parents[int(path.parent.name)] = int(fields[1])
    return parents


def find_tree(root: int, parents: dict[int, int]) -> list[int]:
    """Return a process and all below it, by everybody's parent."""
    found = [root]
    for pid in found:  # grows while it is gone through
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def free_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def run(
    command: Sequence[str], env: dict[str, str], url: str, log: pathlib.Path, seconds: float
) -> Iterator[Running]:
    """Start a server, wait until `url` answers, and end it and its children with the block.

    Raises `DidNotStart`.
    """
    started = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=os.environ | env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, url, started + seconds, log)
        yield Running(process.pid, time.monotonic() - started)
    finally:
        _end(process)


def _wait_until_ready(
    process: "subprocess.Popen[bytes]", url: str, end: float, log: pathlib.Path
) -> None:
    while not answers(url):
        if (code := process.poll()) is not None:
            raise DidNotStart(f"ended with {code}: {tail(log)}")
        if time.monotonic() > end:
            raise DidNotStart(f"not ready in time: {tail(log)}")
        time.sleep(POLL_SECONDS)


def answers(url: str) -> bool:
    """Say whether a server answers; 404 is an answer too."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 404
    except OSError:
        return False
    return True


def tail(log: pathlib.Path, letters: int = 300) -> str:
    """Return the end of a log on one line."""
    return " ".join(log.read_text(errors="replace").split())[-letters:]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end, and end what is left of it and its children."""
    below = find_tree(process.pid, read_parents())
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_END)
    for pid in below:
        if pid in read_parents():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + SECONDS_TO_END
    while set(below) & read_parents().keys() and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
