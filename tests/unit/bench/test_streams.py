"""What a stream of events is read as: first token, tokens, refusals."""

import asyncio
import itertools
import json
from typing import Any

import pytest
import streams


def event(**delta: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode()


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}'
DONE = b"data: [DONE]"


def read(*lines: bytes) -> streams.Answered:
    reading = streams.Reading(itertools.count(1).__next__)
    ends = [reading.take(line) for line in lines]
    assert ends == [False] * (len(lines) - 1) + [True]
    return reading.build(0)


def test_the_first_token_is_the_first_text_not_the_role() -> None:
    made = read(event(role="assistant", content=""), *[event(content="a")] * 2, USAGE, DONE)
    assert (made.first, made.events) == (1, 2)


def test_text_of_thinking_is_text() -> None:
    assert read(event(reasoning_content="a"), USAGE, DONE).events == 1


def test_tokens_are_those_the_server_counted() -> None:
    made = read(event(content="several tokens at once"), USAGE, DONE)
    assert (made.tokens, made.prompt_tokens) == (5, 7)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([event(content="a"), DONE], id="nobody counted the tokens"),
        pytest.param([event(role="assistant"), USAGE, DONE], id="there was no text"),
        pytest.param([b'data: {"error": {"message": "busy"}}', DONE], id="the server says error"),
    ],
)
def test_a_stream_that_is_no_answer_is_a_failure(lines: list[bytes]) -> None:
    with pytest.raises(streams.Failed):
        read(*lines)


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_lines_are_whole_wherever_chunks_are_cut(size: int) -> None:
    body = b"data: one\r\n\ndata: two\n\n"
    reader = asyncio.StreamReader()
    for at in range(0, len(body), size):
        part = body[at : at + size]
        reader.feed_data(b"%x\r\n%s\r\n" % (len(part), part))
    reader.feed_data(b"0\r\n\r\n")
    assert [line async for line in streams._lines(reader)] == [b"data: one", b"", b"data: two", b""]


def test_no_two_questions_begin_alike() -> None:
    begins = {streams.words(5, str(seed))[:20] for seed in range(200)}
    assert len(begins) == 200


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_system_message_is_sent_only_where_there_is_one(system: str | None) -> None:
    body: dict[str, Any] = json.loads(streams.build_body("m", "q", 3, system=system))
    assert [m["content"] for m in body["messages"]] == ([system, "q"] if system else ["q"])
