"""The stand-in answers as the pod whose address was dialled, whoever that is now."""

import contextlib
import http.client
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
import standin_runtime

Pod = dict[str, Any]
COMMIT = "a" * 40


def build_pod(ip: str, revision: str, created: str = "2030-01-01T00:00:00Z", **config: Any) -> Pod:
    body = {
        "command": "serve",
        "chatModel": "triage",
        "revision": revision,
        "mode": "huggingface",
        "modelID": "org/name",
        "commit": COMMIT,
        "engine": "Transformers",
        **config,
    }
    env = [{"name": "OTHER"}, {"name": "CHATMODEL_CONFIG", "value": json.dumps(body)}]
    return {
        "metadata": {"creationTimestamp": created},
        "spec": {"containers": [{"name": "sidecar"}, {"name": "serve", "env": env}]},
        "status": {"podIP": ip, "phase": "Running"},
    }


class ApiServer(http.server.ThreadingHTTPServer):
    """Lists `pods`, and understands as much of a field selector as is asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ApiHandler)
        self.pods: list[Pod] = []


class ApiHandler(http.server.BaseHTTPRequestHandler):
    server: ApiServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        assert path == "/api/v1/pods"
        selector = urllib.parse.parse_qs(query)["fieldSelector"][0]
        wanted = {
            part.split("=")[0].split(".")[1]: part.split("=")[1] for part in selector.split(",")
        }
        found = [p for p in self.server.pods if all(p["status"][k] == v for k, v in wanted.items())]
        data = json.dumps({"items": found}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def serving(server: http.server.ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Pod], int]]:
    api_server = ApiServer()
    path = tmp_path_factory.mktemp("standin") / "kubeconfig"
    cluster = {"server": f"http://127.0.0.1:{api_server.server_port}"}
    path.write_text(json.dumps({"clusters": [{"cluster": cluster}], "users": [{"user": {}}]}))
    standin = standin_runtime.StandIn(standin_runtime.Api(path), port=0)
    with serving(api_server), serving(standin):
        yield api_server.pods, standin.server_port


@pytest.fixture
def pods(running: tuple[list[Pod], int]) -> list[Pod]:
    running[0].clear()
    return running[0]


def ask(port: int, address: str, path: str = "/verify", method: str = "POST") -> tuple[int, Any]:
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_each_address_answers_as_its_own_pod(
    running: tuple[list[Pod], int], pods: list[Pod]
) -> None:
    pods += [build_pod("127.0.0.2", "triage-1"), build_pod("127.0.0.3", "triage-2", commit=None)]
    status, first = ask(running[1], "127.0.0.2")
    assert (status, first) == (
        200,
        {
            "ok": True,
            "chatModel": "triage",
            "revision": "triage-1",
            "mode": "huggingface",
            "modelID": "org/name",
            "commit": COMMIT,
            "engine": "Transformers",
            "tokens": 12,
            "seconds": 0.01,
            "cases": 1,
        },
    )
    _, second = ask(running[1], "127.0.0.3")
    assert (second["revision"], second["commit"]) == ("triage-2", None)


def test_an_address_that_was_given_to_another_pod_answers_as_that_one(
    running: tuple[list[Pod], int], pods: list[Pod]
) -> None:
    pods.append(build_pod("127.0.0.2", "triage-1"))
    assert ask(running[1], "127.0.0.2")[1]["revision"] == "triage-1"
    pods[:] = [build_pod("127.0.0.2", "triage-2")]
    assert ask(running[1], "127.0.0.2")[1]["revision"] == "triage-2"


@pytest.mark.parametrize(
    "rival",
    [
        pytest.param({"status": {"podIP": "127.0.0.2", "phase": "Failed"}}, id="one that ended"),
        pytest.param(
            {"metadata": {"creationTimestamp": "2031-01-01T00:00:00Z", "deletionTimestamp": "x"}},
            id="one that is being deleted",
        ),
        pytest.param(
            {"metadata": {"creationTimestamp": "2029-01-01T00:00:00Z"}}, id="an older one"
        ),
        pytest.param({"spec": {"containers": [{"name": "other"}]}}, id="one that serves nothing"),
    ],
)
def test_of_two_pods_with_one_address_the_living_one_answers(
    running: tuple[list[Pod], int], pods: list[Pod], rival: Pod
) -> None:
    pods += [build_pod("127.0.0.2", "triage-0") | rival, build_pod("127.0.0.2", "triage-1")]
    assert ask(running[1], "127.0.0.2")[1]["revision"] == "triage-1"


@pytest.mark.parametrize(
    ("model_id", "status", "wanted"),
    [
        pytest.param("demo/fine", 200, {"ok": True, "commit": COMMIT}, id="a good model"),
        pytest.param(None, 200, {"ok": True, "modelID": None}, id="a mock"),
        pytest.param(
            "demo/bad-verify",
            503,
            {"ok": False, "reason": "VerificationFailed"},
            id="a model that cannot answer",
        ),
        pytest.param(
            "demo/wrong-identity", 200, {"ok": True, "commit": "f" * 40}, id="somebody else"
        ),
    ],
)
def test_the_name_of_the_model_decides_the_answer(
    running: tuple[list[Pod], int],
    pods: list[Pod],
    model_id: str | None,
    status: int,
    wanted: dict[str, Any],
) -> None:
    pods.append(build_pod("127.0.0.2", "triage-1", modelID=model_id))
    seen_status, body = ask(running[1], "127.0.0.2")
    assert seen_status == status
    assert wanted.items() <= body.items()


@pytest.mark.parametrize("model_id", ["demo/unreachable", None])
def test_nobody_answers_for_an_unreachable_pod_or_none(
    running: tuple[list[Pod], int], pods: list[Pod], model_id: str | None
) -> None:
    if model_id:
        pods.append(build_pod("127.0.0.2", "triage-1", modelID=model_id))
    with pytest.raises(http.client.RemoteDisconnected):
        ask(running[1], "127.0.0.2")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/livez", 200), ("GET", "/readyz", 200), ("GET", "/verify", 404), ("GET", "/x", 404)],
)
def test_probes_are_answered(
    running: tuple[list[Pod], int], pods: list[Pod], method: str, path: str, status: int
) -> None:
    pods.append(build_pod("127.0.0.2", "triage-1"))
    assert ask(running[1], "127.0.0.2", path, method)[0] == status
