"""The management port of every pod that kwok only pretends to run.

    standin_runtime.py KUBECONFIG            # inside node 1's network namespace, port 9090

The addresses of fake pods are all local there. For each connection this takes the address that was
dialled, finds the running pod of that address through the API server, reads the configuration of
its serving container, and answers `/verify`, `/readyz` and `/livez` as that pod would. A modelID
containing one of these words answers otherwise:

    bad-verify      /verify: 503, ok is false
    wrong-identity  /verify: ok, but as another commit
    unreachable     no answer at all: the connection is closed

`/progress` says as many percent as the pod's annotation `test/percent`, where it has one.

Each question asks the API server anew: addresses are used again, and an old picture would answer
as a pod that is gone. Standard library only; the kubeconfig must be JSON, as devcluster writes it.
"""

import argparse
import base64
import http.client
import http.server
import json
import pathlib
import signal
import ssl
import sys
import tempfile
import urllib.parse
from typing import Any

PORT = 9090
ENV_CONFIG = "CHATMODEL_CONFIG"
PERCENT = "test/percent"
OTHER_COMMIT = "f" * 40
Answer = tuple[int, dict[str, Any]]


class Api:
    """The API server of a kubeconfig, with its client certificate or token."""

    def __init__(self, kubeconfig: pathlib.Path) -> None:
        body = json.loads(kubeconfig.read_text())
        cluster, user = body["clusters"][0]["cluster"], body["users"][0]["user"]
        self._server = urllib.parse.urlsplit(cluster["server"])
        self._headers = {"Accept": "application/json"}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"
        self._context = _build_context(cluster, user) if self._server.scheme == "https" else None

    def find_config(self, address: str) -> dict[str, Any] | None:
        """Return what the newest running pod of an address is configured to serve, or None."""
        selector = urllib.parse.quote(f"status.podIP={address},status.phase=Running")
        pods = self._get(f"/api/v1/pods?fieldSelector={selector}")["items"]
        pods.sort(key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True)
        for pod in pods:
            config = read_config(pod)
            if "deletionTimestamp" not in pod["metadata"] and config is not None:
                percent = (pod["metadata"].get("annotations") or {}).get(PERCENT)
                return config if percent is None else config | {PERCENT: percent}
        return None

    def _get(self, path: str) -> Any:
        host, port = self._server.hostname or "", self._server.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=10, context=self._context)
            if self._context
            else http.client.HTTPConnection(host, port, timeout=10)
        )
        try:
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise OSError(f"GET {path}: {response.status}")
            return json.loads(body)
        finally:
            connection.close()


def _build_context(cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    if "client-certificate-data" in user:
        # The library takes certificate and key from a file only; it is gone again at once.
        with tempfile.NamedTemporaryFile() as file:
            for field in ("client-certificate-data", "client-key-data"):
                file.write(base64.b64decode(user[field]))
            file.flush()
            context.load_cert_chain(file.name)
    return context


def read_config(pod: dict[str, Any]) -> dict[str, Any] | None:
    """Return the configuration of a pod's serving container; None when there is none."""
    for container in pod["spec"]["containers"]:
        for variable in container.get("env") or []:
            if variable["name"] != ENV_CONFIG:
                continue
            config: dict[str, Any] = json.loads(variable.get("value") or "{}")
            if config.get("command") == "serve":
                return config
    return None


def build_answer(config: dict[str, Any], method: str, path: str) -> Answer | None:
    """Return status and body of an answer as a pod of that configuration; None for silence."""
    model_id = config.get("modelID") or ""
    if "unreachable" in model_id:
        return None
    if (method, path) in (("GET", "/livez"), ("GET", "/readyz")):
        return 200, {"status": "ok" if path == "/livez" else "ready"}
    if (method, path) == ("GET", "/progress") and PERCENT in config:
        return 200, {"totalBytes": 100, "doneBytes": int(config[PERCENT])}
    if (method, path) != ("POST", "/verify"):
        return 404, {"detail": "Not Found"}
    if "bad-verify" in model_id:
        message = "no answer: the model is told to be bad"
        return 503, {"ok": False, "reason": "VerificationFailed", "message": message}
    names = ("chatModel", "revision", "mode", "modelID", "commit", "engine")
    identity = {name: config.get(name) for name in names}
    if "wrong-identity" in model_id:
        identity["commit"] = OTHER_COMMIT
    return 200, {"ok": True, **identity, "tokens": 12, "seconds": 0.01, "cases": 1}


class StandIn(http.server.ThreadingHTTPServer):
    """Answers for every pod whose address is local here."""

    daemon_threads = True
    request_queue_size = 1024  # a thousand pods may be verified at once

    def __init__(self, api: Api, host: str = "0.0.0.0", port: int = PORT) -> None:
        super().__init__((host, port), _Handler)
        self.api = api

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say why nothing was answered; a client that left is no reason."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            print(f"not answered: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection to one pod."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: StandIn

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing of ordinary requests."""

    def do_GET(self) -> None:
        """Answer as the pod of the address that was dialled."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        config = self.server.api.find_config(self.connection.getsockname()[0])
        answer = None
        if config is not None:
            answer = build_answer(config, self.command, urllib.parse.urlsplit(self.path).path)
        if answer is None:  # nobody is there, or nobody who answers
            self.close_connection = True
            return
        status, body = answer
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815 - the base class looks for this name


def main() -> None:
    """Answer until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kubeconfig", type=pathlib.Path, help="of the API server, as JSON")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default all)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port (default {PORT})")
    args = parser.parse_args()
    try:
        api = Api(args.kubeconfig)
    except (OSError, ValueError, KeyError, IndexError) as error:
        parser.error(f"{args.kubeconfig}: {type(error).__name__}: {error}")
    server = StandIn(api, args.host, args.port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(f"standing in for fake pods on {args.host}:{server.server_port}", flush=True)
    with server:
        server.serve_forever()


if __name__ == "__main__":
    main()
