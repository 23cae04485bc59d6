"""A server with as much of vLLM's command line and HTTP API as the runtime uses; it has no model.

    standin_vllm.py FOLDER serve MODEL --host HOST --port PORT ...

FOLDER holds `orders.json`, read when it starts and at every request: what it says and does. There
it leaves what it was started with (`started.json`), the bodies it got (`bodies.jsonl`) and how
each answer ended (`ended.jsonl`). Standard library only: it runs with nothing of ours.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

HOLD_SECONDS = 60
LOOK_SECONDS = 0.02
CONTEXT_TOKENS = 4096
ORDERS: dict[str, Any] = {
    "loads": False,  # until it is told otherwise
    "says": [],  # lines while it loads
    "load_ends": None,  # with this exit code, instead of serving
    "ignores_sigterm": False,
    "has_child": False,  # one more process, in `child.pid`
    "health": 200,  # or 503, or None: no answer
    "status": 200,  # of completions
    "tokens": [11, 12, 13],
    "finish": "stop",
    "end_token": None,  # comes last, as a token of its own
    "a_step": 1,
    "step_seconds": 0.0,
    "dies_after": None,  # so many steps
    "is_number": True,
    "talks": [],  # lines at each request; PROMPT in them is the prompt
}


@dataclasses.dataclass
class Standin:
    """The folder of one stand-in, as a test sees it."""

    folder: pathlib.Path

    def __post_init__(self) -> None:
        self.order()

    @property
    def command(self) -> list[str]:
        """What starts it, in place of `vllm`."""
        return [sys.executable, str(pathlib.Path(__file__).resolve()), str(self.folder)]

    def order(self, **orders: Any) -> None:
        """Let these orders hold from now on, the defaults for the rest."""
        unknown = set(orders) - set(ORDERS)
        assert not unknown, f"no such orders: {unknown}"
        fresh = self.folder / "orders.new"
        fresh.write_text(json.dumps(ORDERS | orders))
        fresh.replace(self.folder / "orders.json")

    def started(self) -> dict[str, Any]:
        """Return arguments, environment and process id."""
        found: dict[str, Any] = json.loads((self.folder / "started.json").read_text())
        return found

    def read(self, name: str) -> list[Any]:
        """Return the lines of `bodies` or `ended`."""
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_until(is_so: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Return once the condition holds; fail the test after so many seconds."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(LOOK_SECONDS)


def is_there(pid: int) -> bool:
    """Say whether a process runs; one that has ended and is only not waited for does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Server(http.server.ThreadingHTTPServer):
    """Serves one folder's orders."""

    def __init__(self, address: tuple[str, int], folder: pathlib.Path, key: str) -> None:
        super().__init__(address, Handler)
        self.folder = folder
        self.key = key

    def orders(self) -> dict[str, Any]:
        """Return what holds now."""
        return read_orders(self.folder)

    def note(self, name: str, what: Any) -> None:
        """Leave a line for the test."""
        with (self.folder / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(what) + "\n")


class Handler(http.server.BaseHTTPRequestHandler):
    """`/health`, `/v1/models`, `/v1/completions`; the key is asked for under `/v1` alone."""

    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        orders = self.server.orders()
        if self.path == "/health":
            if orders["health"] is None:
                threading.Event().wait(HOLD_SECONDS)
            self._answer(orders["health"] or 503)
        elif not self._is_known():
            self._answer(401)
        else:
            self._answer(200, {"data": [{"id": "model", "max_model_len": CONTEXT_TOKENS}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        orders = self.server.orders()
        if not self._is_known():
            self._answer(401)
            return
        self.server.note("bodies", body)
        for line in orders["talks"]:
            print(line.replace("PROMPT", str(body["prompt"])), flush=True)
        if orders["status"] != 200:
            self._answer(orders["status"])
            return
        try:
            self._stream(orders)
            ending = "done"
        except ConnectionError:
            ending = "cancelled"
        self.server.note("ended", ending)

    def _is_known(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(_hash(given), _hash(self.server.key))

    def _answer(self, status: int, body: Any = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data)

    def _stream(self, orders: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number, event in enumerate(build_events(orders)):
            if number == orders["dies_after"]:
                os._exit(1)
            self._wait(orders["step_seconds"])
            self._send(json.dumps(event))
        self._send("[DONE]")

    def _send(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def _wait(self, seconds: float) -> None:
        """Wait that long, or until the client leaves."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise ConnectionAbortedError


def build_events(orders: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events of one answer, as vLLM 0.32 writes them."""
    tokens, size = orders["tokens"], orders["a_step"]
    if orders["end_token"] is not None:
        tokens = [*tokens, orders["end_token"]]
    chance = -0.5 if orders["is_number"] else None
    for at in range(0, len(tokens), size):
        step = tokens[at : at + size]
        choice = {
            "index": 0,
            "text": "x" * len(step),
            "logprobs": {"token_logprobs": [chance] * len(step)},
            "finish_reason": orders["finish"] if at + size >= len(tokens) else None,
            "token_ids": step,
        }
        yield {"id": "cmpl-1", "object": "text_completion", "choices": [choice]}


def read_orders(folder: pathlib.Path) -> dict[str, Any]:
    """Return what a folder orders now."""
    found: dict[str, Any] = json.loads((folder / "orders.json").read_text())
    return found


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def read_arguments(words: list[str]) -> argparse.Namespace:
    """Return the arguments; what vLLM does not know ends the process, as there."""
    parser = argparse.ArgumentParser(prog="vllm serve")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    for name in ("host", "max-model-len", "served-model-name", "load-format", "generation-config"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--uvicorn-log-level")
    parser.add_argument("--gpu-memory-utilization", type=float)
    for name in ("port", "max-num-seqs", "tensor-parallel-size"):
        parser.add_argument(f"--{name}", type=int)
    switches = ("enable-prefix-caching", "trust-remote-code", "enable-log-requests")
    for name in (*switches, "disable-uvicorn-access-log", "disable-fastapi-docs"):
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    return parser.parse_args(words)


def end_with(parent: int) -> None:
    """End this process once its parent has been killed; a failed test leaves nothing running."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """Load for as long as ordered, then serve."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    args = read_arguments(sys.argv[1:])
    orders = read_orders(args.folder)
    if orders["ignores_sigterm"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if orders["has_child"]:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (args.folder / "child.pid").write_text(str(child.pid))
    started = {"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid()}
    fresh = args.folder / "started.new"
    fresh.write_text(json.dumps(started | {"port": args.port}))
    fresh.replace(args.folder / "started.json")
    for line in orders["says"]:
        print(line, flush=True)
    while read_orders(args.folder)["loads"]:
        time.sleep(LOOK_SECONDS)
    if orders["load_ends"] is not None:
        os._exit(orders["load_ends"])
    Server((args.host, args.port), args.folder, os.environ["VLLM_API_KEY"]).serve_forever()


if __name__ == "__main__":
    main()
