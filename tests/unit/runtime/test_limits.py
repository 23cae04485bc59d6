"""What a request may be, over a real socket: one that is too much of each kind, one just not."""

import itertools
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any, Protocol

import httpx2
import pytest
from raw_http import Answer, chunk, connected, exchange, head, read_answer

from chatmodel_runtime import limits

CANARY = "canary-4711"
JSON = {"Content_Type": "application/json", "X_API_Key": "right"}
QUESTION = json.dumps({"patient_mrn": "MRN-001", "query": "How am I?"}).encode()
SECONDS = 1.0


class Runtime(Protocol):
    """A process of conftest.py."""

    process: Any
    public: str

    def said(self) -> str: ...


class Start(Protocol):
    """Starts a process of conftest.py."""

    def __call__(self, *, ready: bool = True, **env: str) -> Runtime: ...


@pytest.fixture(scope="module")
def runtime(start_once: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    keys = tmp_path_factory.mktemp("keys")
    (keys / "api-key").write_text("right")
    config = {
        "command": "serve",
        "chatModel": "triage",
        "revision": "triage-6f3a2c",
        "mode": "mock",
        "engine": "Mock",
        "patientContext": {"source": "Demo"},
        "auth": {"mode": "ApiKey", "keysDir": str(keys)},
        "limits": {"drainSeconds": 0, "bodySeconds": SECONDS},
    }
    yield start_once(CHATMODEL_CONFIG=json.dumps(config))


def post(url: str, body: bytes, path: str = "/triage", **headers: str) -> Answer:
    top = head("POST", path, Content_Length=str(len(body)), **JSON | headers)
    return exchange(url, [top, body])


def padded(size: int) -> bytes:
    """Return a question of exactly so many bytes, most of them in a field nobody reads."""
    body = json.dumps(json.loads(QUESTION) | {"note": CANARY}).encode()
    return body[:-2] + b"x" * (size - len(body)) + body[-2:]


def nested(depth: int) -> bytes:
    return json.dumps(json.loads(QUESTION))[:-1].encode() + (
        b', "note": %b"%b"%b}' % (b"[" * (depth - 1), CANARY.encode(), b"]" * (depth - 1))
    )


def assert_refused(answer: Answer, status: int) -> None:
    assert answer.status == status, answer.raw
    assert answer.problem()["error"]
    assert CANARY.encode() not in answer.raw


def test_a_body_of_64_kib_is_taken_and_one_byte_more_is_not(runtime: Runtime) -> None:
    assert post(runtime.public, padded(64 * 1024)).status == 200
    answer = post(runtime.public, padded(64 * 1024 + 1))
    assert_refused(answer, 413)
    assert answer.headers["connection"] == "close"


def test_a_conversation_may_have_a_mebibyte_and_no_byte_more(runtime: Runtime) -> None:
    # 404: there is no such route, whatever others are; the body was taken.
    assert post(runtime.public, padded(1024 * 1024), path="/v1/nowhere").status == 404
    assert_refused(post(runtime.public, padded(1024 * 1024 + 1), path="/v1/nowhere"), 413)


@pytest.mark.parametrize("size", [64 * 1024 + 1, 5 * 1024 * 1024, None])
def test_a_body_without_a_length_is_counted_as_it_comes(runtime: Runtime, size: int | None) -> None:
    """None: one that never ends."""
    pieces = itertools.repeat(chunk(b" " * 32768))
    if size is not None:
        pieces = iter([chunk(padded(size)), b"0\r\n\r\n"])
    top = head("POST", "/triage", Transfer_Encoding="chunked", **JSON)
    with connected(runtime.public) as connection:
        connection.sendall(top)
        sent = 0
        try:
            for piece in pieces:
                connection.sendall(piece)
                sent += len(piece)
        except (BrokenPipeError, ConnectionResetError):
            assert sent > limits.DISCARDED, "the server gave up too early"
            return  # an endless sender need not hear why
        assert_refused(read_answer(connection), 413)


def test_a_body_that_is_announced_far_too_large_is_not_waited_for(runtime: Runtime) -> None:
    top = head("POST", "/triage", Content_Length="1000000000", **JSON)
    assert_refused(exchange(runtime.public, [top]), 413)


def test_a_question_without_a_length_is_answered(runtime: Runtime) -> None:
    top = head("POST", "/triage", Transfer_Encoding="chunked", **JSON)
    pieces = [top, chunk(QUESTION[:7]), chunk(QUESTION[7:]), b"0\r\n\r\n"]
    assert exchange(runtime.public, pieces).status == 200


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"X_Long": "x" * (16 * 1024)}, id="one long field"),
        pytest.param({f"X_{n}": CANARY * 10 for n in range(200)}, id="many fields"),
        pytest.param({"Authorization": f"Bearer {CANARY * 2000}"}, id="a long key"),
    ],
)
def test_header_fields_may_have_16_kib(runtime: Runtime, extra: dict[str, str]) -> None:
    assert_refused(exchange(runtime.public, [head("GET", "/health", **extra)]), 431)


def test_an_address_counts_as_well(runtime: Runtime) -> None:
    assert_refused(exchange(runtime.public, [head("GET", f"/{CANARY * 2000}")]), 431)


def test_header_fields_just_under_the_limit_are_read(runtime: Runtime) -> None:
    assert exchange(runtime.public, [head("GET", "/health", X_Long="x" * 16_000)]).status == 200


@pytest.mark.parametrize("depth", [2, 31, 32])
def test_a_body_may_be_nested_32_deep(runtime: Runtime, depth: int) -> None:
    assert post(runtime.public, nested(depth)).status == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(nested(33), id="33 deep"),
        pytest.param(b"[" * 60_000, id="never closed"),
        pytest.param(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, id="objects"),
        pytest.param(b'["]", ' * 33 + b"1" + b"]" * 33, id="brackets between strings"),
    ],
)
def test_a_body_that_is_nested_deeper_is_refused_before_it_is_parsed(
    runtime: Runtime, body: bytes
) -> None:
    assert_refused(post(runtime.public, body), 400)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"a": "' + b"[{" * 9000 + b'"}', id="brackets in a text"),
        pytest.param(b'{"a": "\\"' + b"[" * 9000 + b'"}', id="after a quoted quote"),
        pytest.param(b"[" + b"[]," * 9000 + b"[]]", id="many beside each other"),
        pytest.param(b'["\\\\"' + b',"[\\\\"' * 5000 + b"]", id="texts that end in a backslash"),
    ],
)
def test_brackets_that_nest_nothing_do_not_count(body: bytes) -> None:
    json.loads(body)
    assert not limits.is_too_deep(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'"' * 1_000_000, id="quotes"),
        pytest.param(b'"' + b'\\"' * 500_000, id="quoted quotes"),
        pytest.param(b"[" * 1_000_000, id="opened"),
        pytest.param(b"[}" * 500_000, id="closed by the wrong kind"),
        pytest.param(b"[]" * 500_000, id="pairs"),
        pytest.param((b"[" * 31 + b"]" * 31) * 16_000, id="towers"),
    ],
)
def test_no_body_takes_long_to_look_at(body: bytes) -> None:
    # CPU time of this process: steps in proportion to the size, where a square would take hours.
    started = time.process_time()
    limits.is_too_deep(body)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Content_Type": "text/plain"}, id="text"),
        pytest.param({"Content_Type": "application/x-www-form-urlencoded"}, id="a form"),
        pytest.param({"Content_Type": "multipart/form-data; boundary=x"}, id="a form of parts"),
        pytest.param({"Content_Type": "application/jsonp"}, id="nearly JSON"),
        pytest.param({"Content_Type": ""}, id="nothing"),
        pytest.param({"Content_Encoding": "gzip"}, id="packed"),
    ],
)
def test_only_json_is_taken(runtime: Runtime, headers: dict[str, str]) -> None:
    assert_refused(post(runtime.public, QUESTION, **headers), 415)


def test_json_may_say_its_letters(runtime: Runtime) -> None:
    kind = "Application/JSON; charset=utf-8"
    assert post(runtime.public, QUESTION, Content_Type=kind).status == 200


@pytest.mark.parametrize("kind", [{"Content_Length": "100"}, {"Transfer_Encoding": "chunked"}])
def test_a_body_that_does_not_come_is_not_waited_for(
    runtime: Runtime, kind: dict[str, str]
) -> None:
    first = b"{" if "Content_Length" in kind else chunk(b"{")
    answer = exchange(runtime.public, [head("POST", "/triage", **kind, **JSON), first])
    assert_refused(answer, 408)
    assert answer.headers["connection"] == "close"


def test_a_body_that_trickles_is_cut_off_by_the_clock_of_the_whole(runtime: Runtime) -> None:
    def trickle() -> Iterator[bytes]:
        yield head("POST", "/triage", Transfer_Encoding="chunked", **JSON)
        while True:
            yield chunk(b" ")
            time.sleep(SECONDS / 10)

    answer = exchange(runtime.public, itertools.islice(trickle(), 20))
    assert answer.status in (408, 0)  # 0: the client wrote on and its system dropped the answer


def test_who_has_no_key_is_refused_before_a_body_is_read(runtime: Runtime) -> None:
    top = head("POST", "/triage", Content_Length="100", Content_Type="application/json")
    assert_refused(exchange(runtime.public, [top]), 401)


def test_a_client_that_leaves_within_its_body_leaves_nothing_behind(runtime: Runtime) -> None:
    with connected(runtime.public) as connection:
        connection.sendall(head("POST", "/triage", Content_Length="100", **JSON) + b"{")
    assert post(runtime.public, QUESTION).status == 200
    assert "ASGI" not in runtime.said()


def test_refusals_are_logged_with_their_trace_and_nothing_else(runtime: Runtime) -> None:
    trace = post(runtime.public, QUESTION, Content_Type="text/plain").problem()["trace_id"]
    lines = [json.loads(line) for line in runtime.said().splitlines()]
    (line,) = [line for line in lines if line.get("trace_id") == trace]
    assert set(line) == {"time", "level", "logger", "message", "trace_id", "status"}
    assert line["status"] == 415


def test_after_all_of_that_memory_is_flat(runtime: Runtime) -> None:
    def resident() -> int:
        text = pathlib.Path(f"/proc/{runtime.process.pid}/statm").read_text()
        return int(text.split()[1]) * 4096

    post(runtime.public, padded(1024 * 1024), path="/v1/nowhere")
    before = resident()
    for _ in range(30):
        post(runtime.public, padded(1024 * 1024), path="/v1/nowhere")
        httpx2.get(f"{runtime.public}/health", headers={"X-Long": "x" * 60_000})
    assert resident() - before < 16 * 1024 * 1024
