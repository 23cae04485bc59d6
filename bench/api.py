"""HTTP to the API server for the benchmarks: requests, watches, metrics.

Used by every program of this folder. Knows nothing of operators; it shares no code with the one
that is measured.
"""

import base64
import json
import pathlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

import aiohttp

Body = dict[str, Any]
JSON, APPLY, MERGE = (
    "application/json",
    "application/apply-patch+yaml",
    "application/merge-patch+json",
)
OURS = "/apis/carepath.ai/v1alpha1"
PATHS = {
    "ChatModel": (OURS, "chatmodels"),
    "ChatModelRevision": (OURS, "chatmodelrevisions"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "Pod": ("/api/v1", "pods"),
    "Service": ("/api/v1", "services"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Secret": ("/api/v1", "secrets"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "Event": ("/apis/events.k8s.io/v1", "events"),
}
API_VERSIONS = {kind: path.split("/", 2)[2] for kind, (path, _) in PATHS.items()}


class Refused(Exception):
    """The API server answered with an error."""


def path_of(kind: str, namespace: str | None = None, *tail: str) -> str:
    """Return the path of a collection, an object or its subresource."""
    prefix, plural = PATHS[kind]
    where = [f"namespaces/{namespace}"] if namespace else []
    return "/".join([prefix, *where, plural, *tail])


class Api:
    """The API server of a kubeconfig in JSON; an asynchronous context."""

    def __init__(self, kubeconfig: pathlib.Path, connections: int = 16) -> None:
        body = json.loads(kubeconfig.read_text())
        cluster, user = body["clusters"][0]["cluster"], body["users"][0]["user"]
        self._server = cluster["server"]
        self._headers = {"Accept": JSON}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"
        self._context = _build_context(cluster, user)
        self._connections = connections

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self._server,
            headers=self._headers,
            # A watch holds a connection for itself.
            connector=aiohttp.TCPConnector(limit=self._connections + 4, ssl=self._context),
            timeout=aiohttp.ClientTimeout(total=60),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def text(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | str | None = None,
        content_type: str = JSON,
        **query: str,
    ) -> str:
        """Send a request and return the answer as it is. Raises `Refused`."""
        data = body if body is None or isinstance(body, str) else json.dumps(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        async with self._session.request(
            method, path, data=data, params=query, headers=headers
        ) as response:
            text = await response.text()
            if response.status >= 400:
                raise Refused(f"{method} {path}: {response.status} {text[:300]}")
            return text

    async def request(self, method: str, path: str, *args: Any, **query: str) -> Body:
        """Send a request and return its JSON. Raises `Refused`."""
        return dict(json.loads(await self.text(method, path, *args, **query)))

    async def watch(self, kind: str, selector: str = "") -> AsyncIterator[tuple[str, Body]]:
        """Yield (type, object): first what is there, then changes, in all namespaces.

        The server ends a watch after some minutes; it goes on where it was. Raises `Refused`.
        """
        query = {"watch": "1", "labelSelector": selector, "allowWatchBookmarks": "true"}
        while True:
            async for change, body in self._watch_once(kind, query):
                query["resourceVersion"] = body["metadata"]["resourceVersion"]
                if change != "BOOKMARK":
                    yield change, body

    async def _watch_once(
        self, kind: str, query: dict[str, str]
    ) -> AsyncIterator[tuple[str, Body]]:
        forever = aiohttp.ClientTimeout(total=None)
        async with self._session.get(path_of(kind), params=query, timeout=forever) as response:
            if response.status >= 400:
                raise Refused(f"watch of {kind}: {response.status}")
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise Refused(f"watch of {kind}: {event['object']}")
                    yield event["type"], event["object"]


def _build_context(cluster: Body, user: Body) -> ssl.SSLContext:
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    if "client-certificate-data" in user:
        # The library takes certificate and key from a file only; it is gone again at once.
        with tempfile.NamedTemporaryFile() as file:
            for field in ("client-certificate-data", "client-key-data"):
                file.write(base64.b64decode(user[field]))
            file.flush()
            context.load_cert_chain(file.name)
    return context
