"""Defects of the origin that only a look inside can show (docs/incidents.md)."""

import json

from asgi_calls import call, serving
from scripted_engine import ScriptedEngine

from chatmodel_runtime.engines import Message
from chatmodel_runtime.engines.mock import MockTokenizer

ASK = json.dumps({"patient_mrn": "MRN-001", "query": "What now?"}).encode()


class Counting(MockTokenizer):
    """Notes what is made into a prompt, and into tokens."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.encoded: list[str] = []

    def render(self, messages: list[Message], *, ask: bool = True) -> str:
        text = super().render(messages, ask=ask)
        if ask:
            self.prompts.append(text)
        return text

    def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        return super().encode(text)


async def test_a_question_is_made_into_one_prompt_and_asked_once() -> None:
    engine = ScriptedEngine()
    engine.tokenizer = counting = Counting()
    async with serving(engine) as inside:
        for _ in range(2):
            assert (await call(inside.public, "POST", "/triage", ASK)).status == 200
    assert len(counting.prompts) == 2
    assert [counting.encoded.count(prompt) for prompt in set(counting.prompts)] == [2]
    assert len(engine.asked) == 2
