"""kopf's side of the operator: watches become keys in our queue. The only module that knows kopf.

`kopf run -m chatmodel_operator.handlers`. A handler says "look at this one" and nothing else: no
diff, no patch, no kopf finalizer, no timer.
"""

import gc
import logging
import os
from typing import Any

import kopf

from chatmodel_operator import logs, names, running, settings
from chatmodel_operator.api.fields import GROUP, VERSION
from chatmodel_operator.api_client import Connection

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

# Allocations, and collections of the younger generations, before the next. Python's own numbers
# (700, 10, 10) cost a twentieth of the CPU of a thousand new ChatModels.
COLLECT_AFTER = (20_000, 20, 20)

_running: dict[str, running.Operator] = {}


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Fix kopf's settings, and start the queue."""
    # kopf says of every event that its handler succeeded; ours only feed a queue.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(logs.add_subject)
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.request_timeout = 15
    settings.networking.error_backoffs = running.Backoffs()
    settings.watching.chunk_size = 500
    settings.watching.client_timeout = 600
    for group, version, plural in CHILDREN:
        if group != GROUP:
            resource = f"{plural}.{version}.{group}" if group else f"{plural}.{version}"
            settings.watching.label_selectors[resource] = names.LABEL_CHATMODEL
    # There is hardly a cycle to be found among what lives: looking for some is for longer pauses.
    gc.set_threshold(*COLLECT_AFTER)
    operator = _running["operator"] = running.Operator(_connect, _load_settings())
    await operator.start()


@kopf.on.cleanup()
async def stop(**_: Any) -> None:
    """Stop the queue."""
    operator = _running.pop("operator", None)
    if operator is not None:
        await operator.stop()


@kopf.on.event(GROUP, VERSION, "chatmodels")
async def chatmodel_listed(body: kopf.Body, **_: Any) -> None:
    """Look at a ChatModel that was listed or deleted; of changes `watches` tells."""
    _running["operator"].look_at("ChatModel", dict(body))


@kopf.on.event(GROUP, VERSION, "instanceclasses")
async def class_listed(body: kopf.Body, **_: Any) -> None:
    """Look at all: a ChatModel may have waited for this class."""
    _running["operator"].look_at("InstanceClass", dict(body))


async def child_listed(body: kopf.Body, **_: Any) -> None:
    """Look at the ChatModel a child belongs to."""
    _running["operator"].look_at(str(body.get("kind")), dict(body))


for _child in CHILDREN:
    kopf.on.event(*_child, labels={names.LABEL_CHATMODEL: kopf.PRESENT})(child_listed)


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
