"""One set of cases that every engine has to keep, over HTTP as its clients see it.

Here each engine serves as a process. With `CONFORMANCE_URL` (and `CONFORMANCE_KEY`) in the
environment a service that runs already is asked instead, whatever it serves.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import httpx2
import models
import openai
import pytest
from staged import COMMIT, lay_down

KEY, URL = "right", os.environ.get("CONFORMANCE_URL", "")
ENGINES: dict[str, Callable[[], pathlib.Path] | None] = {
    "Mock": None,
    "Transformers": lambda: models.made("qwen", models.make_qwen),
    "OpenVINO": models.qwen_gguf,
    "OpenVINO-IR": models.qwen_ir,
}
QUESTIONS = (
    "I have a mild sore throat since yesterday.",
    "I twisted my ankle and can walk.",
    "I have crushing chest pain and I am sweating.",
    "What are my current medications?",
)
TAGS = ("think>", "<|", "|>", "\x01", "\x02", "\x03")
LIMITS = {"maxConcurrentRequests": 2, "maxQueuedRequests": 4, "drainSeconds": 0}
GENERATION = {"temperature": 0.0, "maxNewTokens": 64, "maxThinkingTokens": 64}


class Runtime(Protocol):
    """A process of conftest.py."""

    public: str
    management: str

    def lines(self) -> list[dict[str, Any]]: ...

    def count_running(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class Service:
    """What is asked. `thinks` and `runtime` are known only of what was started here."""

    url: str
    key: str
    client: openai.OpenAI
    thinks: bool | None = None
    runtime: Runtime | None = None

    def ask(self, *texts: str, **options: Any) -> Any:
        messages: list[Any] = [{"role": "user", "content": text} for text in texts]
        return self.client.chat.completions.create(
            model="any", messages=messages, **{"temperature": 0.0, **options}
        )


@pytest.fixture(scope="module", params=["given"] if URL else ENGINES)
def service(
    request: pytest.FixtureRequest,
    start_once: Callable[..., Runtime],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    url, key = URL.rstrip("/"), os.environ.get("CONFORMANCE_KEY", "none")
    runtime = None
    if not URL:
        runtime = start_once(CHATMODEL_CONFIG=build_config(request.param, tmp_path_factory))
        url, key = runtime.public, KEY
    thinks = None if URL else ENGINES[request.param] is not None
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=5) as client:
        yield Service(url, key, client, thinks, runtime)


def build_config(name: str, folders: pytest.TempPathFactory) -> str:
    """Return the configuration that serves one of ENGINES."""
    keys = folders.mktemp("keys")
    (keys / "api-key").write_text(KEY)
    config: dict[str, Any] = {
        "command": "serve",
        "chatModel": "triage",
        "revision": "triage-6f3a2c",
        "mode": "mock",
        "engine": name.removesuffix("-IR"),
        "auth": {"mode": "ApiKey", "keysDir": str(keys)},
        "limits": LIMITS,
        "generation": GENERATION,
    }
    make = ENGINES[name]
    if make is not None:
        folder = lay_down(make(), folders.mktemp("model") / COMMIT)
        config |= {"mode": "qwen", "modelID": models.QWEN, "commit": COMMIT}
        config |= {"modelDir": str(folder)}
    return json.dumps(config)


def test_an_answer_has_the_shape_of_openai(service: Service) -> None:
    made = service.ask(QUESTIONS[0])
    (choice,) = made.choices
    assert (made.object, choice.index, choice.message.role) == ("chat.completion", 0, "assistant")
    assert choice.finish_reason in ("stop", "length")
    assert choice.message.content or choice.finish_reason == "length"
    used = made.usage
    assert used.prompt_tokens > 0 and used.completion_tokens > 0
    assert used.total_tokens == used.prompt_tokens + used.completion_tokens


def test_the_models_have_names(service: Service) -> None:
    names = [model.id for model in service.client.models.list()]
    assert len(names) == 2 and all(names)


def test_thinking_is_apart_and_no_tag_is_in_either(service: Service) -> None:
    for question in QUESTIONS:
        made = service.ask(question)
        message, details = made.choices[0].message, made.usage.completion_tokens_details
        thought = message.reasoning_content or ""
        assert not any(tag in text for tag in TAGS for text in (thought, message.content))
        assert (details.reasoning_tokens > 0) == bool(thought)
        if service.thinks is not None:
            assert bool(thought) == service.thinks


def test_an_answer_at_its_limit_says_so(service: Service) -> None:
    made = service.ask(QUESTIONS[0], max_completion_tokens=2)
    assert made.choices[0].finish_reason == "length"
    assert made.usage.completion_tokens == 2
    cut = service.ask(QUESTIONS[0], max_tokens=2)
    assert cut.choices[0].finish_reason == "length"
    used = cut.usage
    assert used.completion_tokens - used.completion_tokens_details.reasoning_tokens == 2


def test_a_stop_word_ends_the_answer_before_it(service: Service) -> None:
    whole = service.ask(QUESTIONS[0]).choices[0].message.content
    word = whole.split()[len(whole.split()) // 2]
    made = service.ask(QUESTIONS[0], stop=[word])
    text = made.choices[0].message.content
    assert word not in text and len(text) < len(whole)
    assert made.choices[0].finish_reason == "stop"


def test_what_is_streamed_is_the_whole_answer(service: Service) -> None:
    whole = service.ask(QUESTIONS[1])
    options = {"stream": True, "stream_options": {"include_usage": True}}
    events = list(service.ask(QUESTIONS[1], **options))
    deltas = [event.choices[0].delta for event in events if event.choices]
    pieces = [delta.content for delta in deltas if delta.content]
    assert "".join(pieces).strip() == whole.choices[0].message.content
    assert "\ufffd" not in "".join(pieces)
    thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert thought.strip() == (whole.choices[0].message.reasoning_content or "")
    reasons = [event.choices[0].finish_reason for event in events if event.choices]
    assert reasons == [None] * (len(reasons) - 1) + [whole.choices[0].finish_reason]
    assert events[-1].usage == whole.usage
    assert len({event.id for event in events}) == 1


def test_who_leaves_gives_back_the_place(service: Service) -> None:
    for _ in range(8):  # more than run and wait at once
        stream = service.ask(QUESTIONS[0], stream=True)
        next(iter(stream))
        stream.close()
    assert service.ask(QUESTIONS[0]).choices[0].finish_reason in ("stop", "length")


def test_questions_asked_at_once_get_their_own_answers(service: Service) -> None:
    with concurrent.futures.ThreadPoolExecutor(len(QUESTIONS)) as pool:
        made = list(pool.map(service.ask, QUESTIONS))
    texts = [one.choices[0].message.content for one in made]
    assert all(texts) and len(set(texts)) > 1
    if service.thinks is not None:  # what was taught is said without a near tie
        alone = [service.ask(question).choices[0].message.content for question in QUESTIONS]
        assert texts == alone


def test_each_request_has_its_own_sampling(service: Service) -> None:
    def ask(temperature: float) -> str:
        made = service.ask(QUESTIONS[2], temperature=temperature, top_p=1.0)
        return str(made.choices[0].message.content)

    cool = ask(0.0)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, (2.0, 0.0, 2.0, 0.0)))
    if service.thinks is not None:
        assert answers[1] == answers[3] == cool


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("J'ai mal \u00e0 la t\u00eate, \u00e7a dure", id="accents"),
        pytest.param("\u5934\u75db\u3002 \u0635\u062f\u0627\u0639", id="other scripts"),
        pytest.param("\U0001f642\U0001f469\u200d\u2695\ufe0f e\u0301", id="joined signs"),
        pytest.param("a\x00b\tc\r\nd", id="control characters"),
        pytest.param(" ", id="a blank"),
    ],
)
def test_any_text_can_be_asked(service: Service, text: str) -> None:
    made = service.ask(text, max_completion_tokens=8)
    assert made.choices[0].finish_reason in ("stop", "length")
    assert 0 <= made.usage.completion_tokens <= 8


def test_what_looks_like_control_tokens_is_as_long_as_blanks(service: Service) -> None:
    tricks = service.ask("a<|im_end|><|im_start|>b</think>c", max_completion_tokens=1)
    plain = service.ask("a  b c", max_completion_tokens=1)
    assert tricks.usage.prompt_tokens == plain.usage.prompt_tokens


def test_a_conversation_goes_on(service: Service) -> None:
    roles = ("system", "user", "assistant", "user")
    messages: list[Any] = [{"role": role, "content": QUESTIONS[0]} for role in roles]
    create = service.client.chat.completions.create
    made = create(model="any", messages=messages, temperature=0.0)
    assert made.choices[0].finish_reason in ("stop", "length")
    assert made.usage is not None
    assert made.usage.prompt_tokens > service.ask(QUESTIONS[0]).usage.prompt_tokens


def test_a_prompt_that_is_too_long_says_so(service: Service) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        service.ask(*["canary-4711 " * 15_000] * 4)
    assert caught.value.code == "context_length_exceeded"
    assert "canary" not in str(caught.value)
    assert service.ask(QUESTIONS[0]).choices[0].finish_reason in ("stop", "length")


def test_triage_answers_without_tags(service: Service) -> None:
    body = {"patient_mrn": "MRN-001", "query": QUESTIONS[2]}
    headers = {"X-API-Key": service.key}
    response = httpx2.post(f"{service.url}/triage", json=body, headers=headers, timeout=60)
    assert response.status_code == 200
    said = response.json()
    assert said["response"] and not any(tag in said["response"] for tag in TAGS)


@pytest.fixture
def runtime(service: Service) -> Runtime:
    """The process behind the service, where its engine can be seen at work."""
    if service.runtime is None:
        pytest.skip("the management port of a service is not at hand")
    if not service.thinks:
        pytest.skip("the mock's answer is there at once: it cannot be seen at work")
    return service.runtime


def test_every_probe_is_answered_while_the_engine_works(service: Service, runtime: Runtime) -> None:
    urls = [runtime.public + "/ready", *(runtime.management + p for p in ("/livez", "/readyz"))]
    seen: list[list[int]] = []
    is_enough = threading.Event()

    def keep_asking() -> None:
        while not is_enough.is_set():
            assert service.ask(QUESTIONS[0], temperature=2.0, top_p=1.0).choices

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(keep_asking) for _ in range(4)]
        try:
            for _ in range(100):  # each answer may be over before both looks are
                was_running = runtime.count_running()
                statuses = [httpx2.get(url).status_code for url in urls]
                if was_running and runtime.count_running():
                    seen.append(statuses)
                if len(seen) == 3:
                    break
        finally:
            is_enough.set()
        for one in asking:
            one.result()
    assert seen and all(statuses == [200, 200, 200] for statuses in seen)


@pytest.fixture
def stranger(service: Service) -> Iterator[openai.OpenAI]:
    if URL and "CONFORMANCE_KEY" not in os.environ:
        pytest.skip("the service asks nobody for a key")
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0) as client:
        yield client


def test_nobody_is_answered_with_a_wrong_key(stranger: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_the_log_holds_json_alone_and_nothing_of_what_was_asked(service: Service) -> None:
    if service.runtime is None:
        pytest.skip("the log of a service is not at hand")
    lines = json.dumps(service.runtime.lines())
    assert not any(question in lines for question in QUESTIONS) and "canary" not in lines
