"""Running commands, saying how long steps took, waiting for conditions, and one error for users."""

import contextlib
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence


class Problem(Exception):
    """Something the user can mend; the text is one sentence that says what to do."""


def run(
    *command: str | pathlib.Path,
    text: str | None = None,
    check: bool = True,
    env: dict[str, str] | None = None,
) -> str:
    """Run a command and return its output. Raises `Problem` with the command's last words."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False, env=env)
    if check and done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise Problem(f"`{' '.join(words[:6])}` failed: {' / '.join(last)}")
    return done.stdout


def succeeds(*command: str | pathlib.Path) -> bool:
    """Say whether a command ends with 0."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def in_namespace(name: str) -> list[str]:
    """Return the prefix that runs a command in a network namespace.

    Not `ip netns exec`: that mounts /sys anew, and hides the cgroups.
    """
    return ["nsenter", f"--net=/run/netns/{name}"]


def wait_for(seconds: float, what: str, holds: Callable[[], bool], hint: str = "") -> None:
    """Wait until a condition holds. Raises `Problem` saying what was waited for."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise Problem(f"waited {seconds:.0f} s in vain for {what}. {hint}".strip())
        time.sleep(0.1)


def say(text: str) -> None:
    """Tell the user something, on standard error: standard output is for results."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(name: str, *, quiet_under: float = 0.0) -> Iterator[None]:
    """Say what is being done and how long it took; quick steps may stay unsaid."""
    started = time.monotonic()
    if not quiet_under:
        say(f"  {name} ...")
    yield
    seconds = time.monotonic() - started
    if seconds >= quiet_under:
        say(f"  {name}: {seconds:.1f} s")


def retrying(command: Sequence[str], times: int = 3) -> None:
    """Run a command whose fault may pass (a registry that stumbles), a few times."""
    for attempt in range(times):
        try:
            run(*command)
            return
        except Problem:
            if attempt == times - 1:
                raise
            time.sleep(1 + attempt)
