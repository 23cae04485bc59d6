"""Everything one running operator has, from its start to its end; who works and who stands by.

Made by `handlers`, which gives it a way to log in and tells it what has changed. Decides nothing
about ChatModels, and knows no kopf.
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator

from chatmodel_operator import cputime, names, settings, tasks
from chatmodel_operator.api_client import ApiClient, Connection
from chatmodel_operator.cache import Object, owner_of
from chatmodel_operator.cluster import Cluster
from chatmodel_operator.errors import ClusterError
from chatmodel_operator.health import HealthServer
from chatmodel_operator.leadership import Election
from chatmodel_operator.metrics import Metrics, Sources
from chatmodel_operator.questions import Questions
from chatmodel_operator.reconcile import Reconciler
from chatmodel_operator.watches import Watches
from chatmodel_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

LISTING_SECONDS = 15.0
WATCH_CHECK_SECONDS = 5.0


class Backoffs:
    """kopf gives up on the API server after a list of pauses; this list does not end."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.5, 1, 2, 5)
        while True:
            yield 10


class Operator:
    """Everything one running operator has; made at start-up, gone at its end."""

    def __init__(self, connect: Callable[[], Connection], config: settings.Settings) -> None:
        self._connect = connect
        counts = self._metrics = Metrics(self._sources())
        self.cluster = Cluster(
            connect,
            on_answer=counts.count_request,
            may_write=lambda: self._is_leading(),
        )
        self.watches = Watches(self.cluster.reads.cache, self.look_at)
        self.questions = Questions(self.cluster, lambda *key: self.queue.nudge(key))
        self._reconciler = Reconciler(self.cluster, self.questions, config, counts.count_rollout)
        self.queue = WorkQueue(self._look, on_pass=counts.count_pass)
        self._election = self._candidate(config.leader_election)
        self._health = HealthServer(self._find_dead, self._find_unready, counts.render)
        self._health_port = config.health_port
        self._resync_seconds = config.timings.resync_seconds
        self._namespaces: list[str | None] = [*config.namespaces] or [None]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Wait for an API server that has our kinds, then start everything."""
        if self._health_port is not None:
            await self._health.start(self._health_port)
        await self._wait_for_kinds()
        chores = (self._begin(), self._resync_forever(), self._look_after_watches_forever())
        self._tasks = [asyncio.create_task(chore) for chore in chores]

    async def stop(self) -> None:
        """Stop at once; a pass that is cut off is begun anew by the next operator.

        The Lease is given back when nothing can be written any more.
        """
        await tasks.end(self._tasks)
        await self._stop_working()
        if self._election is not None:
            await self._election.release()
        await self.cluster.close()
        await self._health.stop()

    def look_at(self, kind: str, body: Object) -> None:
        """Have the ChatModel looked at that an object is, or belongs to; all of them for a class.

        A ChatModel may have waited for the class.
        """
        if kind == "InstanceClass":
            self.look_at_all()
        elif (owner := owner_of(kind, body)) is not None:
            self.queue.nudge(owner)

    def look_at_all(self) -> None:
        """Have every ChatModel looked at."""
        for key in self.cluster.reads.cache.keys():
            self.queue.add(key)

    async def _look(self, namespace: str, name: str) -> float | None:
        try:
            story = self._reconciler.reconcile(namespace, name)
            return await cputime.counted(story, self._metrics.count_pass_cpu)
        except (ClusterError, asyncio.CancelledError):
            self.cluster.forget(namespace, name)  # who knows what has been done
            raise

    async def _wait_for_kinds(self) -> None:
        """kopf looks for kinds once: without this it would watch nothing for good."""
        for pause in Backoffs():
            try:
                if await self.cluster.is_served():
                    return
                logger.warning("the API server does not know our kinds; looking again")
            except ClusterError as error:
                logger.warning("no API server yet: %s", error)
            await asyncio.sleep(pause)

    async def _begin(self) -> None:
        """Work, or stand for election, once the watches have listed all, or do not manage to."""
        end = time.monotonic() + LISTING_SECONDS
        while not self.cluster.reads.cache.is_filled(self._namespaces):
            if time.monotonic() > end:
                logger.warning("not everything could be listed; passes read live")
                break
            await asyncio.sleep(0.1)
        if self._election is not None:
            await self._election.run()
        self._start_working()
        await asyncio.Event().wait()

    def _start_working(self) -> None:
        self.look_at_all()
        self.queue.start()

    async def _stop_working(self) -> None:
        await self.queue.stop()
        await self.questions.close()

    async def _resync_forever(self) -> None:
        """Heal from time to time what watches have missed."""
        while True:
            await asyncio.sleep(self._resync_seconds)
            try:
                for key in await self.cluster.reads.resync(self._namespaces):
                    self.queue.add(key)
            except ClusterError as error:
                logger.warning("resync failed: %s", error)

    async def _look_after_watches_forever(self) -> None:
        while True:
            await asyncio.sleep(WATCH_CHECK_SECONDS)
            self.watches.restart_stalled(time.monotonic())

    def _candidate(self, config: settings.LeaderElection) -> Election | None:
        if not config.enabled:
            return None
        # A container that was restarted is the same candidate: its old process is gone for sure.
        unique = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        return Election(
            # A client of its own: passes that jam their connections must not cost the Lease.
            ApiClient(self._connect, on_answer=self._metrics.count_request),
            config,
            namespace=os.environ.get(names.ENV_POD_NAMESPACE, names.SYSTEM_NAMESPACE),
            identity=os.environ.get(names.ENV_POD_NAME, unique),
            gained=self._start_working,
            lost=self._stop_working,
        )

    def _is_leading(self) -> bool:
        return self._election is None or self._election.is_leading()

    def _find_dead(self) -> str | None:
        """Return what only a restart mends; an API server that is away is none of it."""
        if any(task.done() for task in self._tasks):
            return "a part of the operator has ended"
        return self.queue.find_fault()

    def _find_unready(self) -> str | None:
        if not self.cluster.reads.cache.is_filled(self._namespaces):
            return "not everything is listed and watched"
        if not (self._is_leading() and self.queue.is_running):
            return "standing by"
        return None

    def _sources(self) -> Sources:
        return Sources(
            chatmodels=lambda: self.cluster.reads.cache.all_of("ChatModel"),
            queue_depth=lambda: self.queue.depth,
            is_leading=self._is_leading,
            reconnects=lambda: self.watches.reconnects,
            slowed=lambda: self.watches.slowed,
        )
