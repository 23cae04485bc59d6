"""kopf's side of the operator: watches become keys in our queue. The only module that knows kopf.

`kopf run -m chatmodel_operator.handlers`. A handler says "look at this one" and nothing else: no
diff, no patch, no kopf finalizer, no timer.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import kopf

from chatmodel_operator import names, settings
from chatmodel_operator.api.fields import GROUP, VERSION
from chatmodel_operator.api_client import Connection
from chatmodel_operator.cluster import Cluster
from chatmodel_operator.errors import ClusterError
from chatmodel_operator.questions import Questions
from chatmodel_operator.reconcile import Reconciler
from chatmodel_operator.watches import Watches
from chatmodel_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

LISTING_SECONDS = 15.0
WATCH_CHECK_SECONDS = 5.0
CHILDREN = (
    (GROUP, VERSION, "chatmodelrevisions"),
    ("apps", "v1", "deployments"),
    ("batch", "v1", "jobs"),
    ("", "v1", "pods"),
    ("", "v1", "services"),
    ("", "v1", "serviceaccounts"),
    ("", "v1", "persistentvolumeclaims"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("networking.k8s.io", "v1", "networkpolicies"),
)


class Operator:
    """Everything one running operator has; made at start-up, gone at its end."""

    def __init__(self, config: settings.Settings) -> None:
        self.cluster = Cluster(_connect)
        self.watches = Watches(self.cluster.reads.cache)
        self.questions = Questions(self.cluster, lambda *key: self.queue.nudge(key))
        self._reconciler = Reconciler(self.cluster, self.questions, config)
        self.queue = WorkQueue(self._look)
        self._resync_seconds = config.timings.resync_seconds
        self._namespaces: list[str | None] = [*config.namespaces] or [None]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Wait for an API server that has our kinds, then start everything."""
        await self._wait_for_kinds()
        chores = (self._begin(), self._resync_forever(), self._look_after_watches_forever())
        self._tasks = [asyncio.create_task(chore) for chore in chores]

    async def stop(self) -> None:
        """Stop at once; a pass that is cut off is begun anew by the next operator."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.queue.stop()
        await self.questions.close()
        await self.cluster.close()

    def look_at_all(self) -> None:
        """Have every ChatModel looked at."""
        for key in self.cluster.reads.cache.keys():
            self.queue.add(key)

    async def _look(self, namespace: str, name: str) -> float | None:
        try:
            return await self._reconciler.reconcile(namespace, name)
        except ClusterError:
            self.cluster.forget(namespace, name)  # who knows what has been done
            raise

    async def _wait_for_kinds(self) -> None:
        """kopf looks for kinds once: without this it would watch nothing for good."""
        for pause in _Backoffs():
            try:
                if await self.cluster.is_served():
                    return
                logger.warning("the API server does not know our kinds; looking again")
            except ClusterError as error:
                logger.warning("no API server yet: %s", error)
            await asyncio.sleep(pause)

    async def _begin(self) -> None:
        """Start the workers once the watches have listed everything, or do not manage to."""
        end = time.monotonic() + LISTING_SECONDS
        while not self.cluster.reads.cache.is_filled(self._namespaces):
            if time.monotonic() > end:
                logger.warning("not everything could be listed; passes read live")
                break
            await asyncio.sleep(0.1)
        self.queue.start()

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


_running: dict[str, Operator] = {}


class _Backoffs:
    """kopf gives up on the API server after a list of pauses; this list does not end."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.5, 1, 2, 5)
        while True:
            yield 10


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Fix kopf's settings, and start the queue."""
    # kopf says of every event that its handler succeeded; ours only feed a queue.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.request_timeout = 15
    settings.networking.error_backoffs = _Backoffs()
    settings.watching.chunk_size = 500
    settings.watching.client_timeout = 600
    for group, version, plural in CHILDREN:
        if group != GROUP:
            resource = f"{plural}.{version}.{group}" if group else f"{plural}.{version}"
            settings.watching.label_selectors[resource] = names.LABEL_CHATMODEL
    operator = _running["operator"] = Operator(_load_settings())
    await operator.start()


@kopf.on.cleanup()
async def stop(**_: Any) -> None:
    """Stop the queue."""
    operator = _running.pop("operator", None)
    if operator is not None:
        await operator.stop()


@kopf.on.event(GROUP, VERSION, "chatmodels")
async def chatmodel_changed(namespace: str | None, name: str | None, **_: Any) -> None:
    """Look at a ChatModel that changed."""
    _running["operator"].queue.nudge((str(namespace), str(name)))


@kopf.on.event(GROUP, VERSION, "instanceclasses")
async def class_changed(**_: Any) -> None:
    """Look at all: a ChatModel may have waited for this class."""
    _running["operator"].look_at_all()


async def child_changed(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
    """Look at the ChatModel a child belongs to."""
    if owner := labels.get(names.LABEL_CHATMODEL):
        _running["operator"].queue.nudge((str(namespace), owner))


for _child in CHILDREN:
    kopf.on.event(*_child, labels={names.LABEL_CHATMODEL: kopf.PRESENT})(child_changed)


@kopf.on.login()
async def login(**_: Any) -> kopf.AiohttpSession | None:
    """Log in as the pod's ServiceAccount, or with the kubeconfig of the environment.

    The session is ours: its middleware feeds the cache and keeps bad answers from kopf.
    """
    info = _find_login()
    if info is None:
        return None
    session = _running["operator"].watches.open_session(_read_connection(info))
    return kopf.AiohttpSession(
        server=info.server, default_namespace=info.default_namespace, aiohttp_session=session
    )


def _find_login() -> kopf.ConnectionInfo | None:
    settings = kopf.OperatorSettings()
    return kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(
        settings=settings
    )


def _connect() -> Connection:
    """Return our own client's connection, from the same place as kopf's."""
    info = _find_login()
    if info is None:
        raise kopf.LoginError("neither a ServiceAccount nor a kubeconfig (KUBECONFIG) was found")
    return _read_connection(info)


def _read_connection(info: kopf.ConnectionInfo) -> Connection:
    secure = info.server.startswith("https:")
    context = info.as_ssl_context() if secure else None
    return Connection(info.server, info.as_http_headers(), context)


def _load_settings() -> settings.Settings:
    try:
        return settings.load(os.environ.get(settings.ENV_FILE))
    except (OSError, ValueError) as error:
        raise kopf.PermanentError(f"settings of {settings.ENV_FILE}: {error}") from error
