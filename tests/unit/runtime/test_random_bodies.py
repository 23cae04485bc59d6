"""Ten thousand random bodies: none is repeated where it may not be, none ends in a 500."""

import collections
import io
import json
import logging
import random
from collections.abc import Iterator
from typing import Any

import in_process
import pytest
from canaries import MAY_NAME, MRN, QUERY, leaks

from chatmodel_runtime import logs

BODIES = 10_000
KNOWN = "MRN-001"
ALLOWED = {200, 400, 404, 413, 415, 422}


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What all loggers say at debug level, as the runtime writes it."""
    sink = io.StringIO()
    handler = logging.StreamHandler(sink)
    handler.setFormatter(logs.JsonFormatter())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield sink
    root.removeHandler(handler)
    root.setLevel(before)


class Bodies:
    """Makes bodies that are nearly right, in every way we could think of."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def make(self) -> bytes:
        """Return a body."""
        way = self.chance.choice((self._whole, self._whole, self._value_only, self._garbage))
        data = way()
        if self.chance.random() < 0.3 and data:
            data = self._damage(data)
        return data

    def _whole(self) -> bytes:
        body = {"patient_mrn": self.chance.choice((MRN, KNOWN, self._value())), "query": QUERY}
        for _ in range(self.chance.randint(0, 3)):
            body[self._word()] = self._value()
        if self.chance.random() < 0.3:
            body.pop(self.chance.choice(list(body)))
        return self._dump(body)

    def _value_only(self) -> bytes:
        return self._dump(self._value())

    def _garbage(self) -> bytes:
        noise = self.chance.randbytes(self.chance.randint(0, 60))
        return noise + QUERY.encode() + noise[::-1]

    def _dump(self, value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=self.chance.random() < 0.5).encode(errors="replace")

    def _word(self) -> str:
        return self.chance.choice(
            ("patient_mrn", "query", "llm_mode", MRN, QUERY, "", "\u0000", "__proto__", "\ud800")
        )

    def _value(self, depth: int = 0) -> Any:
        plain = (None, True, 0, -1, 1e308, float("nan"), 10**400, "", MRN, QUERY, "x" * 9000)
        kind = self.chance.randint(0, 9)
        if depth > 3 or kind < 6:
            return self.chance.choice((*plain, "\ud800", "\u202e" + QUERY, ".", "..", KNOWN))
        if kind < 8:
            return [self._value(depth + 1) for _ in range(self.chance.randint(0, 3))]
        return {self._word(): self._value(depth + 1) for _ in range(self.chance.randint(0, 3))}

    def _damage(self, data: bytes) -> bytes:
        at = self.chance.randrange(len(data))
        return self.chance.choice(
            (
                data[:at],
                data[at:],
                data[:at] + self.chance.randbytes(1) + data[at + 1 :],
                data + data,
                b"[" * self.chance.randint(1, 60) + data,
                b"\xef\xbb\xbf" + data,
            )
        )


def repeated(reply: in_process.Reply) -> set[str]:
    """Return the secrets in a reply where they may not be."""
    body = reply.body
    if reply.status == 200:
        body = json.dumps({k: v for k, v in reply.json().items() if k not in MAY_NAME}).encode()
    elif reply.status == 404:
        detail = reply.json()["detail"]
        body = json.dumps({k: v for k, v in detail.items() if k != "patient_mrn"}).encode()
    return leaks(body + repr(reply.headers).encode())


async def test_ten_thousand_random_bodies_leave_no_trace(said: io.StringIO) -> None:
    bodies, seen = Bodies(seed=5), collections.Counter[int]()
    async with in_process.serving() as app:
        for _ in range(BODIES):
            body = bodies.make()
            reply = await in_process.ask(app, "POST", "/triage", body, **in_process.JSON)
            assert repeated(reply) == set(), body
            assert reply.status in ALLOWED, body
            assert b'"trace_id"' in reply.body
            seen[reply.status] += 1
    assert leaks(said.getvalue()) == set()
    assert said.getvalue().count("\n") >= BODIES, "each left its line"
    assert {200, 400, 404, 422} <= set(seen) and min(seen.values()) >= 20, seen


@pytest.mark.parametrize("status", [200, 404, 422])
def test_a_planted_repetition_is_found(status: int) -> None:
    text = json.dumps({"detail": {"patient_mrn": MRN, "error": f"no {QUERY}"}, "urgency": MRN})
    assert repeated(in_process.Reply(status, {}, text.encode()))
