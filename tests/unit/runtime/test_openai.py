"""The OpenAI API with OpenAI's own client, against a real process; and what it refuses."""

import json
import pathlib
import signal
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import httpx2
import openai
import pytest

KEY = "right"
MESSAGES: list[Any] = [
    {"role": "system", "content": "You are careful."},
    {"role": "user", "content": "What should I do?"},
]
SENT = {"model": "any", "messages": MESSAGES}


class Runtime(Protocol):
    """A process of conftest.py."""

    process: Any
    public: str
    management: str

    def said(self) -> str: ...


Start = Callable[..., Runtime]


def config(folder: pathlib.Path, **change: Any) -> str:
    (folder / "api-key").write_text(KEY)
    body = {
        "command": "serve",
        "chatModel": "triage",
        "revision": "triage-6f3a2c",
        "mode": "mock",
        "engine": "Mock",
        "auth": {"mode": "ApiKey", "keysDir": str(folder)},
        "limits": {"drainSeconds": 0},
    }
    return json.dumps(body | change)


@pytest.fixture(scope="module")
def runtime(start_once: Start, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return start_once(CHATMODEL_CONFIG=config(tmp_path_factory.mktemp("keys")))


@pytest.fixture
def client(runtime: Runtime) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{runtime.public}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def post(runtime: Runtime, **change: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {KEY}"}
    url = f"{runtime.public}/v1/chat/completions"
    return httpx2.post(url, json=SENT | change, headers=headers, timeout=20)


def test_the_models_are_the_chatmodel_and_what_serves_under_it(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["triage", "mock"]


def test_a_completion_is_what_the_client_expects(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(model="triage", messages=MESSAGES)
    choice, usage = made.choices[0], made.usage
    assert choice.message.content and choice.message.content.startswith("[mock]")
    assert (choice.finish_reason, choice.message.role) == ("stop", "assistant")
    assert usage is not None and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert (made.model, made.to_dict()["revision"]) == ("mock", "triage-6f3a2c")


def test_a_streamed_answer_is_the_whole_one(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="x", messages=MESSAGES)
    stream = client.chat.completions.create(
        model="x", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    events = list(stream)
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert text == whole.choices[0].message.content
    assert [e.choices[0].finish_reason for e in events if e.choices][-1] == "stop"
    assert events[-1].usage == whole.usage
    assert len({e.id for e in events}) == 1


def test_limits_and_stop_words_of_a_request_hold(client: openai.OpenAI) -> None:
    short = client.chat.completions.create(model="x", messages=MESSAGES, max_tokens=2)
    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None and short.usage.completion_tokens == 2
    both = client.chat.completions.create(model="x", messages=MESSAGES, max_completion_tokens=3)
    assert both.usage is not None and both.usage.completion_tokens == 3
    stopped = client.chat.completions.create(model="x", messages=MESSAGES, stop=["language"])
    assert stopped.choices[0].message.content == "[mock] No"
    assert stopped.choices[0].finish_reason == "stop"


def test_a_wrong_key_is_an_authentication_error(runtime: Runtime) -> None:
    with (
        openai.OpenAI(base_url=f"{runtime.public}/v1", api_key="wrong") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.chat.completions.create(model="x", messages=MESSAGES)


IMAGE = [{"type": "image_url", "image_url": {"url": "http://canary-4711.invalid/x.png"}}]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"messages": [{"role": "user", "content": IMAGE}]}, id="an image"),
        pytest.param({"messages": []}, id="no message"),
        pytest.param({"messages": MESSAGES * 40}, id="too many messages"),
        pytest.param({"messages": [{"role": "canary-4711", "content": "x"}]}, id="a role"),
        pytest.param({"chat_template": "canary-4711"}, id="a template"),
        pytest.param({"chat_template_kwargs": {"canary-4711": 1}}, id="template settings"),
        pytest.param({"guided_regex": "canary-4711"}, id="a grammar"),
        pytest.param({"response_format": {"type": "json_schema"}}, id="a schema"),
        pytest.param({"tools": [{"canary-4711": 1}]}, id="tools"),
        pytest.param({"n": 2}, id="two choices"),
        pytest.param({"stop": ["canary-4711"] * 5}, id="five stop words"),
        pytest.param({"max_tokens": 0}, id="no token"),
        pytest.param({"temperature": 3}, id="too hot"),
        pytest.param({"model": ""}, id="no model"),
    ],
)
def test_what_is_not_served_is_refused_without_repeating_it(
    runtime: Runtime, change: dict[str, Any]
) -> None:
    response = post(runtime, **change)
    assert response.status_code == 422
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert "canary-4711" not in response.text.replace(next(iter(change)), "")


def test_a_prompt_that_is_too_long_says_so_as_openai_does(client: openai.OpenAI) -> None:
    long = [{"role": "user", "content": "canary-4711 " * 15_000}] * 4
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="x", messages=long)  # type: ignore[arg-type]
    assert caught.value.code == "context_length_exceeded"
    assert "canary-4711" not in str(caught.value)


@pytest.fixture
def slow(start: Start, tmp_path: pathlib.Path) -> Runtime:
    limits = {"maxConcurrentRequests": 1, "maxQueuedRequests": 0, "drainSeconds": 0}
    return start(CHATMODEL_CONFIG=config(tmp_path, limits=limits), MOCK_STEP_SECONDS="0.05")


def test_a_full_queue_is_429_with_retry_after_also_for_streams(slow: Runtime) -> None:
    with openai.OpenAI(base_url=f"{slow.public}/v1", api_key=KEY, max_retries=0) as client:
        stream = client.chat.completions.create(model="x", messages=MESSAGES, stream=True)
        next(iter(stream))
        for streams in (True, False):
            refused = post(slow, stream=streams)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["type"] == "rate_limit_error"
        stream.close()
        # Leaving gives the place back.
        assert client.with_options(max_retries=5).chat.completions.create(
            model="x", messages=MESSAGES, max_tokens=1
        )


def test_pieces_come_while_the_answer_is_being_made(slow: Runtime) -> None:
    with openai.OpenAI(base_url=f"{slow.public}/v1", api_key=KEY) as client:
        events = iter(client.chat.completions.create(model="x", messages=MESSAGES, stream=True))
        pieces = (event.choices[0].delta.content for event in events)
        assert next(piece for piece in pieces if piece)
        metrics = httpx2.get(f"{slow.management}/metrics").text
        assert "chatmodel_requests_running 1.0" in metrics.splitlines()
        assert any(pieces), "there is more to come"


def test_a_stream_under_way_at_sigterm_is_finished(slow: Runtime) -> None:
    with openai.OpenAI(base_url=f"{slow.public}/v1", api_key=KEY) as client:
        stream = client.chat.completions.create(model="x", messages=MESSAGES, stream=True)
        events = iter(stream)
        next(events)
        slow.process.send_signal(signal.SIGTERM)
        rest = list(events)
    assert rest[-1].choices[0].finish_reason == "stop"
    assert slow.process.wait(10) == 0


def test_an_answer_past_its_deadline_ends_its_stream_with_the_reason(
    start: Start, tmp_path: pathlib.Path
) -> None:
    limits = {"requestDeadlineSeconds": 0.3}
    runtime = start(CHATMODEL_CONFIG=config(tmp_path, limits=limits), MOCK_STEP_SECONDS="0.1")
    assert post(runtime).status_code == 504
    lines = [line for line in post(runtime, stream=True).text.split("\n\n") if line]
    assert json.loads(lines[-2].removeprefix("data: "))["error"]["message"] == (
        "The answer took too long"
    )
    assert lines[-1] == "data: [DONE]"
