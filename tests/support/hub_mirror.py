"""A mirror of the Hugging Face hub, as far as huggingface_hub calls it. Standard library only.

    hub_mirror.py --root DIR [--host 127.0.0.1] [--port 8080]

A model is a folder `<root>/<org>/<name>/` with `refs.json` (branch or tag -> commit, and maybe
`"gated": true`) and one folder for each commit. `<file>.synthetic`: zeros behind a head, as
`{"size": bytes, "head": base64}`.

Faults on command: `POST /_admin/faults` with a list of `{"match": "substring of the path",
"status": 503, "times": 1, "headers": {}, "cut": bytes, "seconds_per_mib": 0.5}`; the first that
matches is used up. Also `"short": bytes` (the body ends early, and says so), `"flip": offset` (a
wrong bit), `"hang": bytes` (then nothing until the client is gone). `GET /_admin/requests` says
what was asked, with whether a token came along, never the token.
"""

import argparse
import base64
import contextlib
import dataclasses
import hashlib
import http.server
import json
import pathlib
import re
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

CHUNK = 1 << 20
LARGE = 100_000  # from this many bytes on a file is announced as the hub announces LFS files


@dataclasses.dataclass
class File:
    """One file of one commit."""

    name: str
    path: pathlib.Path

    @property
    def is_synthetic(self) -> bool:
        return self.path.suffix == ".synthetic"

    @property
    def size(self) -> int:
        if self.is_synthetic:
            return int(json.loads(self.path.read_text())["size"])
        return self.path.stat().st_size

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `stop`."""
        if not self.is_synthetic:
            with self.path.open("rb") as handle:
                handle.seek(start)
                while start < stop and (block := handle.read(min(CHUNK, stop - start))):
                    yield block
                    start += len(block)
            return
        head = base64.b64decode(json.loads(self.path.read_text())["head"])
        if start < len(head):
            yield head[start:stop]
            start = min(len(head), stop)
        while start < stop:
            yield bytes(min(CHUNK, stop - start))
            start += min(CHUNK, stop - start)


class Repositories:
    """The models under a root."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root
        self._digests: dict[tuple[pathlib.Path, int, int], str] = {}

    def refs(self, model_id: str) -> dict[str, Any] | None:
        path = self._root / model_id / "refs.json"
        return json.loads(path.read_text()) if path.exists() else None

    def commit(self, model_id: str, revision: str) -> str | None:
        refs = self.refs(model_id) or {}
        commit = str(refs.get(revision, revision))
        return commit if (self._root / model_id / commit).is_dir() else None

    def files(self, model_id: str, commit: str) -> list[File]:
        folder = self._root / model_id / commit
        found = (p for p in sorted(folder.rglob("*")) if p.is_file())
        return [File(str(p.relative_to(folder)).removesuffix(".synthetic"), p) for p in found]

    def digest(self, file: File) -> str:
        """Return the hash the hub promises: sha256 of a large file, git's sha1 of a small one."""
        stat = file.path.stat()
        key = (file.path, stat.st_mtime_ns, stat.st_size)
        if key not in self._digests:
            head = b"blob %d\0" % (size := file.size)
            digest = hashlib.sha256() if size >= LARGE else hashlib.sha1(head)
            for block in file.read(0, size):
                digest.update(block)
            self._digests[key] = digest.hexdigest()
        return self._digests[key]


class Handler(http.server.BaseHTTPRequestHandler):
    """One request. The server carries repositories, faults and the record of requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "MirrorServer"

    def log_message(self, *args: Any) -> None:
        """Stay silent: `/_admin/requests` tells."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/_admin/faults":
            self._json(404, {"error": "not found"})
            return
        self.server.faults = json.loads(body)
        self._json(200, {"faults": len(self.server.faults)})

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if path == "/_admin/requests":
            self._json(200, self.server.requests)
            return
        asked = {"token": "Authorization" in self.headers, "range": self.headers.get("Range", "")}
        self.server.requests.append({"method": self.command, "path": path, **asked})
        fault = self.server.next_fault(path, body_sent=self.command == "GET")
        if fault is not None and "status" in fault:
            self._json(fault["status"], {"error": "as told"}, fault.get("headers", {}))
            return
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            self._info(found[1], found[2])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self._tree(found[1], found[2])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(found[1], found[2], found[3], fault or {})
        else:
            self._json(404, {"error": "not found"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _open(self, model_id: str, revision: str) -> str | None:
        """Return the commit, or answer as the hub does where there is none."""
        refs = self.server.repositories.refs(model_id)
        if refs is None:
            self._json(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        if refs.get("gated"):
            self._json(403, {"error": "Access is restricted"}, {"X-Error-Code": "GatedRepo"})
            return None
        commit = self.server.repositories.commit(model_id, revision)
        if commit is None:
            self._json(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return commit

    def _info(self, model_id: str, revision: str) -> None:
        if (commit := self._open(model_id, revision)) is None:
            return
        siblings = [
            {"rfilename": f.name, "size": f.size, **self._blob(f, "blobId", "sha256")}
            for f in self.server.repositories.files(model_id, commit)
        ]
        self._json(200, {"id": model_id, "modelId": model_id, "sha": commit, "siblings": siblings})

    def _tree(self, model_id: str, revision: str) -> None:
        if (commit := self._open(model_id, revision)) is None:
            return
        entries = [
            {"type": "file", "path": f.name, "size": f.size, **self._blob(f, "oid", "oid")}
            for f in self.server.repositories.files(model_id, commit)
        ]
        self._json(200, entries)

    def _blob(self, file: File, own: str, large: str) -> dict[str, Any]:
        digest = self.server.repositories.digest(file)
        lfs = {large: digest, "size": file.size, "pointerSize": 134}
        return {own: digest[:40]} | ({"lfs": lfs} if file.size >= LARGE else {})

    def _file(self, model_id: str, revision: str, name: str, fault: dict[str, Any]) -> None:
        if (commit := self._open(model_id, revision)) is None:
            return
        files = {f.name: f for f in self.server.repositories.files(model_id, commit)}
        if name not in files:
            self._json(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        file = files[name]
        start, stop = _range(self.headers.get("Range"), file.size)
        digest = self.server.repositories.digest(file)
        last = min(stop, start + fault.get("short", stop))
        self.send_response(206 if self.headers.get("Range") else 200)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - start))
        self.send_header("Content-Type", "application/octet-stream")
        if file.size >= LARGE:
            self.send_header("X-Linked-Size", str(file.size))
            self.send_header("X-Linked-Etag", f'"{digest}"')
        if self.headers.get("Range"):
            self.send_header("Content-Range", f"bytes {start}-{last - 1}/{file.size}")
        self.end_headers()
        if self.command == "GET":
            self._body(file, start, last, fault)

    def _body(self, file: File, start: int, stop: int, fault: dict[str, Any]) -> None:
        last = min(stop, start + fault.get("cut", fault.get("hang", stop)))
        wrong, pause = fault.get("flip", -1), float(fault.get("seconds_per_mib", 0))
        for block in file.read(start, last):
            if start <= wrong < start + len(block):
                at = wrong - start
                block = block[:at] + bytes([block[at] ^ 1]) + block[at + 1 :]
            self.wfile.write(block)
            start += len(block)
            time.sleep(pause * len(block) / (1 << 20))
        if start < stop:
            self.close_connection = True
            if "hang" in fault:
                self.server.hanging.release()
                self.connection.recv(1)

    def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for key, value in (headers or {}).items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _range(header: str | None, size: int) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", header or "")
    if not found:
        return 0, size
    return min(int(found[1]), size), min(int(found[2]) + 1, size) if found[2] else size


class MirrorServer(http.server.ThreadingHTTPServer):
    """The server, and what tests may look at."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], root: pathlib.Path) -> None:
        super().__init__(address, Handler)
        self.repositories = Repositories(root)
        self.faults: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.hanging = threading.Semaphore(0)  # bodies that were held up
        self._lock = threading.Lock()

    def next_fault(self, path: str, *, body_sent: bool) -> dict[str, Any] | None:
        """Return the first fault meant for a path, and use it up; a HEAD has no body to cut."""
        with self._lock:
            for fault in self.faults:
                fits = fault.get("match", "") in path and (body_sent or "status" in fault)
                if fits and fault.get("times", 1) > 0:
                    fault["times"] = fault.get("times", 1) - 1
                    return fault
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no error of ours; anything else is said."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def running(root: pathlib.Path) -> Iterator[tuple[str, MirrorServer]]:
    """Run a mirror on a free loopback port; yields its endpoint and the server."""
    server = MirrorServer(("127.0.0.1", 0), root)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description="A mirror of the Hugging Face hub, for tests.")
    parser.add_argument("--root", type=pathlib.Path, required=True, help="folder of the models")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on; 0: a free one")
    args = parser.parse_args()
    server = MirrorServer((args.host, args.port), args.root)
    print(f"hub mirror of {args.root} on {args.host}:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
