"""Real `inspect` and `stage` processes by the hundred: one process imports the runtime, then forks.

    with running(folder) as stager:
        child = stager.begin({"command": "stage", ...}, dies_at=("file", 17))
        ended = child.wait()

A child runs the command as `commands` does. It can be told to kill itself (SIGKILL) before the nth
call into the file system, or before the nth call of any kind. What it connected to, and which
programs it began, is told when it ends by itself.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

IN_FILES = frozenset(
    ("open", "write", "pwrite", "fsync", "rename", "replace", "unlink", "mkdir", "rmdir", "scandir")
)
WATCHED = ("socket.connect", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.system")
Death = tuple[str, int]


@dataclasses.dataclass
class Ended:
    """How a child ended: its exit code, or minus the signal; what it did if it could tell."""

    status: int
    calls: int = 0
    in_files: int = 0
    seen: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Child:
    """A command that runs."""

    stager: "Stager"
    pid: int

    def wait(self) -> Ended:
        return Ended(**self.stager.read())

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Stager:
    """The process that forks, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdin and process.stdout
        self.stdin, self.stdout = process.stdin, process.stdout

    def begin(self, config: dict[str, Any], dies_at: Death | None = None) -> Child:
        self.stdin.write(json.dumps({"config": config, "dies_at": dies_at}) + "\n")
        self.stdin.flush()
        return Child(self, self.read()["pid"])

    def run(self, config: dict[str, Any], dies_at: Death | None = None) -> Ended:
        return self.begin(config, dies_at).wait()

    def read(self) -> dict[str, Any]:
        line = self.stdout.readline()
        assert line, "the forking process is gone"
        body: dict[str, Any] = json.loads(line)
        return body


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[Stager]:
    """Run the process that forks; what its children say goes to `<folder>/log`."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            text=True,
        )
    try:
        yield Stager(process)
    finally:
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        process.kill()
        process.wait()


class Steps:
    """Counts what the main thread of a child calls, and kills it in time."""

    def __init__(self, dies_at: Death | None) -> None:
        self._kind, self._at = dies_at or ("", -1)
        self.calls = self.in_files = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event != "c_call":
            return
        is_in_files = argument.__name__ in IN_FILES
        if self._at == (self.in_files if self._kind == "file" else self.calls):
            if is_in_files or self._kind == "call":
                os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1
        self.in_files += is_in_files


def run_child(order: dict[str, Any], told: int) -> int:
    """Be the command; what it did is written into a pipe."""
    from chatmodel_runtime import commands, endings

    os.dup2(2, 1)
    seen: list[str] = []

    def watch(event: str, arguments: Any) -> None:
        if event in WATCHED:
            seen.append(f"{event} {arguments[1 if event == 'socket.connect' else 0]}")

    sys.addaudithook(watch)
    config = order["config"]
    steps = Steps(order["dies_at"])
    sys.setprofile(steps)
    work = commands.COMMANDS[config["command"]]
    code = endings.end(work, {"CHATMODEL_CONFIG": json.dumps(config)})
    sys.setprofile(None)
    body = {"calls": steps.calls, "in_files": steps.in_files, "seen": seen}
    os.write(told, json.dumps(body).encode())
    return code


def prepare() -> None:
    """Import everything once, and make what children cannot need to make again."""
    import huggingface_hub

    from chatmodel_runtime import commands, logs, server, transfer

    huggingface_hub.HfApi()
    ssl.create_default_context = functools.cache(ssl.create_default_context)
    transfer.httpx2.Client().close()
    transfer.FIRST_PAUSE = 0.001
    logs.configure_logs()
    server.serve_in_thread = lambda *_: None  # one port, and many children
    commands.endings.TERMINATION_LOG = pathlib.Path("termination")


def main() -> None:
    """Fork a child for each line, one at a time, and say how it ended."""
    prepare()
    for line in sys.stdin:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            code = 70
            try:
                code = run_child(json.loads(line), write)
            finally:
                os._exit(code)
        os.close(write)
        print(json.dumps({"pid": pid}), flush=True)
        with os.fdopen(read, "rb") as pipe:
            told = json.loads(pipe.read() or b"{}")
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status), **told}), flush=True)


if __name__ == "__main__":
    main()
