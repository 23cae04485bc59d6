"""Side questions that need a network: is the answer right, how far is the download.

Called by `reconcile` with the questions of a plan. Each runs in the background, at most one per
revision. A right answer is kept for the next pass, which writes it into the revision's status
together with what follows from it; all others are written at once. Then a pass is woken.
The planner only ever reads status. An answer that is lost with the process is asked for again.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

from chatmodel_operator import cluster, errors, rollout, runtime_client, tasks
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import ChatModel, Observed, Revision, format_time
from chatmodel_operator.scene import Record

logger = logging.getLogger(__name__)
STEP_PERCENT = 5
PAUSE_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Answer:
    """A right answer of one attempt of a revision, as its status will say it."""

    uid: str
    started_at: str | None
    status: dict[str, Any]


class Questions:
    """The questions under way, by the revision they are about, and the answers by ChatModel."""

    def __init__(self, api: cluster.Cluster, wake: Callable[[str, str], None]) -> None:
        self._api = api
        self._wake = wake
        self._tasks: dict[str, tuple[asyncio.Task[None], float]] = {}
        self._answers: dict[tuple[str, str], Answer] = {}

    def ask(self, chatmodel: ChatModel, question: rollout.Question) -> float:
        """Ask in the background, unless something is being asked about that revision already.

        Returns for how many seconds it has been.
        """
        key, now = question.revision.uid, time.monotonic()
        if key in self._tasks:
            return now - self._tasks[key][1]
        task = asyncio.create_task(self._ask(chatmodel, question))
        self._tasks[key] = task, now
        task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return 0.0

    def find_answer(self, observed: Observed) -> Record | None:
        """Return the answer that has come for what is seen, as a record to be written."""
        key = observed.chatmodel.namespace, observed.chatmodel.name
        answer = self._answers.get(key)
        if answer is None:
            return None
        for revision in observed.revisions:
            is_same = (revision.uid, revision.status.started_at) == (answer.uid, answer.started_at)
            if is_same and revision.is_open and not revision.is_answered:
                return Record(revision, answer.status)
        del self._answers[key]  # written, or of an attempt that is over
        return None

    async def _note(self, chatmodel: ChatModel, revision: Revision, status: dict[str, Any]) -> None:
        """Write an answer down, and have it looked at."""
        await self._api.note(chatmodel.namespace, revision, status)
        self._wake(chatmodel.namespace, chatmodel.name)

    async def close(self) -> None:
        """Give up what is being asked; it is asked again after the next start."""
        await tasks.end([task for task, _ in self._tasks.values()])
        self._answers.clear()

    async def _ask(self, chatmodel: ChatModel, question: rollout.Question) -> None:
        try:
            if question.kind == "verify":
                await self._verify(chatmodel, question)
            else:
                await self._progress(chatmodel, question)
        except errors.ClusterError as error:
            # The next pass asks again; an answer that could not be written was none.
            logger.warning("question not answered: %s", error)

    async def _verify(self, chatmodel: ChatModel, question: rollout.Question) -> None:
        revision = question.revision
        answer = await runtime_client.verify(chatmodel.name, revision, question.pod)
        before = revision.status.verification
        failures = before.failures if before is not None else 0
        if answer.reason is None:
            stamp = format_time(self._api.now())
            body: dict[str, Any] = {
                "failures": 0,
                "tokens": answer.tokens,
                "seconds": round(answer.seconds, 3),
            }
            right = {"answeredAt": stamp, "progressAt": stamp, "verification": body | _NO_REASON}
            key = chatmodel.namespace, chatmodel.name
            self._answers[key] = Answer(revision.uid, revision.status.started_at, right)
            self._wake(*key)
            return
        unreachable = answer.reason is Reason.VerificationUnreachable
        why = {"reason": answer.reason.value, "message": answer.message}
        count = failures if unreachable else failures + 1
        same = before is not None and before.reason == answer.reason and count == failures
        if not same:
            note = {"verification": why | {"failures": count}}
            await self._note(chatmodel, revision, note)
        await asyncio.sleep(PAUSE_SECONDS)  # the pause between two questions to the same pod

    async def _progress(self, chatmodel: ChatModel, question: rollout.Question) -> None:
        found = await runtime_client.progress(question.pod)
        if found is None or found[0] <= 0:
            return
        total, done = found
        percent = min(100, done * 100 // total) // STEP_PERCENT * STEP_PERCENT
        if percent == _known_percent(question.revision):
            return
        body = {"totalBytes": total, "percent": percent}
        stamp = format_time(self._api.now())
        note = {"download": body, "progressAt": stamp}
        await self._note(chatmodel, question.revision, note)


_NO_REASON = {"reason": None, "message": None}


def _known_percent(revision: Revision) -> int | None:
    return revision.status.download.percent if revision.status.download is not None else None
