"""kopf's side of the operator: watches become keys in our queue. The only module that knows kopf.

`kopf run -m chatmodel_operator.handlers`. A handler says "look at this one" and nothing else: no
diff, no patch, no kopf finalizer, no timer.
"""

import asyncio
import contextlib
import logging
import os
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
from chatmodel_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

CHILDREN = (
    (GROUP, VERSION, "chatmodelrevisions"),
    ("apps", "v1", "deployments"),
    ("batch", "v1", "jobs"),
    ("", "v1", "pods"),
    ("", "v1", "services"),
    ("", "v1", "serviceaccounts"),
)


class Operator:
    """Everything one running operator has; made at start-up, gone at its end."""

    def __init__(self, config: settings.Settings) -> None:
        self.cluster = Cluster(_connect)
        self.questions = Questions(self.cluster)
        reconciler = Reconciler(self.cluster, self.questions, config)
        self.queue = WorkQueue(reconciler.reconcile)
        self.resync_seconds = config.timings.resync_seconds
        self.namespaces: list[str | None] = [*config.namespaces] or [None]
        self._resync: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the workers and the periodic resync, which heals gaps in watches."""
        self.queue.start()
        self._resync = asyncio.create_task(self._look_at_all_forever())

    async def stop(self) -> None:
        """Stop at once; a pass that is cut off is begun anew by the next operator."""
        if self._resync is not None:
            self._resync.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._resync
        await self.queue.stop()
        await self.questions.close()
        await self.cluster.close()

    async def look_at_all(self) -> None:
        """Have every ChatModel looked at."""
        for key in await self.cluster.list_keys(self.namespaces):
            self.queue.add(key)

    async def _look_at_all_forever(self) -> None:
        while True:
            await asyncio.sleep(self.resync_seconds)
            try:
                await self.look_at_all()
            except ClusterError as error:
                logger.warning("resync failed: %s", error)


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
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = _Backoffs()
    settings.watching.chunk_size = 500
    settings.watching.client_timeout = 600
    for group, version, plural in CHILDREN:
        if group != GROUP:
            resource = f"{plural}.{version}.{group}" if group else f"{plural}.{version}"
            settings.watching.label_selectors[resource] = names.LABEL_CHATMODEL
    operator = Operator(_load_settings())
    operator.start()
    _running["operator"] = operator


@kopf.on.cleanup()
async def stop(**_: Any) -> None:
    """Stop the queue."""
    operator = _running.pop("operator", None)
    if operator is not None:
        await operator.stop()


@kopf.on.event(GROUP, VERSION, "chatmodels")
async def chatmodel_changed(namespace: str | None, name: str | None, **_: Any) -> None:
    """Look at a ChatModel that changed."""
    _running["operator"].queue.add((str(namespace), str(name)))


@kopf.on.event(GROUP, VERSION, "instanceclasses")
async def class_changed(**_: Any) -> None:
    """Look at all: a ChatModel may have waited for this class."""
    await _running["operator"].look_at_all()


async def child_changed(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
    """Look at the ChatModel a child belongs to."""
    if owner := labels.get(names.LABEL_CHATMODEL):
        _running["operator"].queue.add((str(namespace), owner))


for _child in CHILDREN:
    kopf.on.event(*_child, labels={names.LABEL_CHATMODEL: kopf.PRESENT})(child_changed)


@kopf.on.login()
def login(**_: Any) -> kopf.ConnectionInfo | None:
    """Log in as the pod's ServiceAccount, or with the kubeconfig of the environment."""
    return _find_login()


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
    secure = info.server.startswith("https:")
    context = info.as_ssl_context() if secure else None
    return Connection(info.server, info.as_http_headers(), context)


def _load_settings() -> settings.Settings:
    try:
        return settings.load(os.environ.get(settings.ENV_FILE))
    except (OSError, ValueError) as error:
        raise kopf.PermanentError(f"settings of {settings.ENV_FILE}: {error}") from error
