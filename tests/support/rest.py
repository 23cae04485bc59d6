"""The API server over one kept-alive connection: a hundred requests in the time of one kubectl.

Used by tests that ask a great many small questions. Never hides an answer: code and body come back.
"""

import base64
import http.client
import json
import pathlib
import ssl
import tempfile
import urllib.parse
from typing import Any

import yaml

Body = dict[str, Any]
MERGE = "application/merge-patch+json"
PLURALS = {
    "ChatModel": "chatmodels",
    "ChatModelRevision": "chatmodelrevisions",
    "InstanceClass": "instanceclasses",
}


def can_connect(kubeconfig: str) -> bool:
    """Say whether a kubeconfig has one cluster, and all that `connect` needs in it."""
    if not pathlib.Path(kubeconfig).is_file():
        return False
    config = yaml.safe_load(pathlib.Path(kubeconfig).read_text())
    parts = [each["user"] for each in config["users"]], [c["cluster"] for c in config["clusters"]]
    needed = "client-key-data", "certificate-authority-data"
    return all(len(p) == 1 and key in p[0] for p, key in zip(parts, needed, strict=True))


def connect(kubeconfig: str) -> http.client.HTTPSConnection:
    """Return a connection for a kubeconfig with a client certificate in it."""
    config = yaml.safe_load(pathlib.Path(kubeconfig).read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as file:
        for key in ("client-certificate-data", "client-key-data"):
            file.write(base64.b64decode(user[key]))
        file.flush()
        context.load_cert_chain(file.name)
    address = urllib.parse.urlsplit(cluster["server"])
    assert address.hostname is not None
    return http.client.HTTPSConnection(address.hostname, address.port, context=context, timeout=30)


class Rest:
    """Objects of our three kinds in one namespace; `user` is impersonated when given."""

    def __init__(self, kubeconfig: str, namespace: str, user: str = "") -> None:
        self._connection = connect(kubeconfig)
        self._namespace = namespace
        self._headers = {"Impersonate-User": user} if user else {}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def request(
        self, method: str, path: str, body: Body | None = None, mime: str = "application/json"
    ) -> tuple[int, Body]:
        """Return code and body of an answer."""
        headers = self._headers | {"Content-Type": mime, "Accept": "application/json"}
        text = None if body is None else json.dumps(body)
        self._connection.request(method, path, text, headers)
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def get(self, kind: str, name: str) -> Body:
        """Return an object, which must be there."""
        code, body = self.request("GET", f"{self._path(kind)}/{name}")
        assert code == 200, body
        return body

    def create(self, body: Body, *, dry: bool = False) -> tuple[int, Body]:
        """Create an object, refusing unknown fields; `dry` leaves nothing behind."""
        return self.request("POST", self._path(body["kind"]) + _query(dry), body)

    def patch(
        self, kind: str, name: str, change: Body, *, part: str = "", dry: bool = False
    ) -> tuple[int, Body]:
        """Merge a change into an object, or into its subresource `part`."""
        path = f"{self._path(kind)}/{name}{'/' + part if part else ''}"
        return self.request("PATCH", path + _query(dry), change, MERGE)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object."""
        code, body = self.request("DELETE", f"{self._path(kind)}/{name}")
        assert code in (200, 202, 404), body

    def _path(self, kind: str) -> str:
        inside = "" if kind == "InstanceClass" else f"/namespaces/{self._namespace}"
        return f"/apis/carepath.ai/v1alpha1{inside}/{PLURALS[kind]}"


def _query(dry: bool) -> str:
    return "?fieldValidation=Strict" + ("&dryRun=All" if dry else "")
