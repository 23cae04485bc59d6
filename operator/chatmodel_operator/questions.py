"""Side questions that need a network: is the answer right, how far is the download.

Called by `reconcile` with the questions of a plan. Each runs in the background, at most one per
revision; its answer is written into the revision's status, and then the next pass is woken.
The planner only ever reads status.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from chatmodel_operator import cluster, errors, rollout, runtime_client, tasks
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import ChatModel, Revision, format_time

logger = logging.getLogger(__name__)
STEP_PERCENT = 5
PAUSE_SECONDS = 1.0


class Questions:
    """The questions under way, by the revision they are about."""

    def __init__(self, api: cluster.Cluster, wake: Callable[[str, str], None]) -> None:
        self._api = api
        self._wake = wake
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def ask(self, chatmodel: ChatModel, question: rollout.Question) -> None:
        """Ask in the background, unless something is being asked about that revision already."""
        key = question.revision.uid
        if key in self._tasks:
            return
        task = asyncio.create_task(self._ask(chatmodel, question))
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _note(self, chatmodel: ChatModel, revision: Revision, status: dict[str, Any]) -> None:
        """Write an answer down, and have it looked at."""
        await self._api.note(chatmodel.namespace, revision, status)
        self._wake(chatmodel.namespace, chatmodel.name)

    async def close(self) -> None:
        """Give up what is being asked; it is asked again after the next start."""
        await tasks.end(list(self._tasks.values()))

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
            await self._note(chatmodel, revision, right)
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
