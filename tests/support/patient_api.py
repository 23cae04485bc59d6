"""A patient API on loopback that behaves as a test tells it to, and remembers what it was sent."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any, Literal

# hangs: answers nobody until it behaves otherwise; waits: only until `release`.
Behaviour = Literal["answers", "knows nobody", "fails", "no summary", "odd", "redirects", "hangs"]
BODIES: dict[Behaviour, tuple[int, str]] = {
    "knows nobody": (404, "{}"),
    "fails": (500, "{}"),
    "no summary": (200, "[]"),
    "odd": (200, '{"patient": {"conditions": [17]}}'),
    "redirects": (302, ""),
}


class PatientApi:
    """What the API does from now on, and what it was asked."""

    def __init__(self, url: str, secret: str) -> None:
        self.url = url
        self.behaviour: Behaviour = "answers"
        self.logs: Behaviour = "answers"
        self.chat_logs: list[dict[str, Any]] = []
        self.asked = threading.Semaphore(0)
        self.released = threading.Event()
        self._secret = secret

    def reply(self, path: str) -> tuple[int, bytes]:
        """Return status and body for a lookup; everything but a good one repeats the secret."""
        self.asked.release()
        if self.behaviour == "hangs":
            self.released.wait(30)
        if self.behaviour in ("answers", "hangs"):
            patient = {"sex": "female", "conditions": [{"display": self._secret or "asthma"}]}
            return 200, json.dumps({"patient": patient}).encode()
        status, body = BODIES[self.behaviour]
        return status, body.replace("{}", json.dumps({"detail": self._secret})).encode()

    def take(self, body: bytes) -> int:
        """Remember a chat log, or refuse it."""
        if self.logs == "hangs":
            self.released.wait(30)
        if self.logs == "fails":
            return 500
        self.chat_logs.append(json.loads(body))
        return 201


@contextlib.contextmanager
def running(secret: str = "") -> Iterator[PatientApi]:
    """Yield an API that listens; `secret` is what it repeats in what is no good answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Stay silent."""

        def do_GET(self) -> None:
            self._send(*api.reply(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(api.take(body), secret.encode())

        def _send(self, status: int, body: bytes) -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                self.send_header("Location", f"http://127.0.0.1:9/{secret}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api = PatientApi(f"http://127.0.0.1:{server.server_port}", secret)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield api
    finally:
        api.released.set()
        server.shutdown()
        server.server_close()
