"""A mirror of the Hugging Face hub, as far as huggingface_hub 2.4.0 calls it; standard library only.

    hub_mirror.py --root DIR --port 8080                          # in an image, or by hand
    with HubMirror(root).start() as mirror: mirror.endpoint ...   # in a test, on loopback

A model is a folder `<root>/<org>/<name>/` made by `add_commit`: the files of each commit, and
`repo.json` with `refs` (branch or tag to commit), `gated`, and for each commit its files' size and
sha256. A file with `head` (base64) is synthetic: that head, then zeros, and nothing on disk.

Commands: `POST /_admin/faults` with a list of faults (see `Fault`; it replaces the list before),
`POST /_admin/refs` with `{"model", "ref", "commit"}` moves a branch, `GET /_admin/requests` says
what was asked and whether a token came along, never the token; `GET /_admin/models` lists models.
"""

import argparse
import base64
import collections
import contextlib
import dataclasses
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

CHUNK = 1 << 20
LARGE = 100_000  # bytes; from here on a file is announced as the hub announces its LFS files
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
ROUTES = {
    "info": re.compile(rf"/api/models/(?P<model>{NAME}/{NAME})(?:/revision/(?P<revision>[^/]+))?"),
    "tree": re.compile(rf"/api/models/(?P<model>{NAME}/{NAME})/tree/(?P<revision>[^/]+)"),
    "file": re.compile(rf"/(?P<model>{NAME}/{NAME})/resolve/(?P<revision>[^/]+)/(?P<file>.+)"),
}


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a commit. With `head` it is synthetic: the head, then zeros up to `size`."""

    size: int
    sha256: str
    path: pathlib.Path
    head: bytes | None = None

    @property
    def etag(self) -> str:
        """As on the hub: the sha256 of a large file, a git object's 40 digits of a small one."""
        return self.sha256 if self.size >= LARGE else self.sha256[:40]

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `stop`."""
        if self.head is not None:
            yield from _read_synthetic(self.head, start, stop)
            return
        with self.path.open("rb") as handle:
            handle.seek(start)
            while block := handle.read(min(CHUNK, stop - start)):
                yield block
                start += len(block)


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """A file to be: `head`, then zeros up to `size` bytes."""

    size: int
    head: bytes = b""


@dataclasses.dataclass
class Fault:
    """What goes wrong with the next `times` requests (None: all) whose path contains `match`.

    Before an answer: `delay` seconds; instead of it: `status` with `headers`, or a `redirect` to a
    Location ("{path}" stands for the path asked for), on a file with its metadata, as to a CDN.
    In a file's body, which only GET has: `cut` after so many bytes, so many `bytes_per_second`,
    `flip` its first byte.
    """

    match: str = ""
    times: int | None = 1
    method: str | None = None
    delay: float = 0.0
    status: int | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    redirect: str | None = None
    cut: int | None = None
    bytes_per_second: float | None = None
    flip: bool = False

    def meets(self, method: str, path: str) -> bool:
        """Say whether a request is one this fault is meant for."""
        in_body = self.cut is not None or self.bytes_per_second is not None or self.flip
        wanted = self.method or ("GET" if in_body else method)
        return self.times != 0 and wanted == method and self.match in path


def _read_synthetic(head: bytes, start: int, stop: int) -> Iterator[bytes]:
    while start < stop:
        end = min(start + CHUNK, stop)
        part = head[start:end]
        yield part + bytes(end - start - len(part))
        start = end


def add_commit(
    root: pathlib.Path,
    model_id: str,
    files: Mapping[str, pathlib.Path | bytes | Synthetic],
    *,
    refs: tuple[str, ...] = ("main",),
    gated: bool = False,
) -> str:
    """Add a commit to a model, make `refs` point to it, and return it; files are hard-linked."""
    staging = root / model_id / f".{os.getpid()}"
    staging.mkdir(parents=True)
    entries = {name: _add_file(staging / name, what) for name, what in sorted(files.items())}
    named = "".join(f"{name} {entry['sha256']}\n" for name, entry in entries.items())
    commit = hashlib.sha1(named.encode(), usedforsecurity=False).hexdigest()
    shutil.rmtree(root / model_id / commit, ignore_errors=True)
    staging.rename(root / model_id / commit)
    about = root / model_id / "repo.json"
    old = json.loads(about.read_text()) if about.exists() else {"refs": {}, "commits": {}}
    body = {
        "gated": gated,
        "refs": old["refs"] | dict.fromkeys(refs, commit),
        "commits": old["commits"] | {commit: entries},
    }
    draft = about.with_name(".repo.json")
    draft.write_text(json.dumps(body, indent=1))
    draft.rename(about)
    return commit


def _add_file(path: pathlib.Path, what: pathlib.Path | bytes | Synthetic) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    size, head = 0, None
    if isinstance(what, Synthetic):
        size, head = what.size, what.head
    elif isinstance(what, bytes):
        path.write_bytes(what)
    else:
        try:
            os.link(what, path)
        except OSError:  # another file system
            shutil.copyfile(what, path)
    digest = hashlib.sha256()
    for block in File(size, "", path, head).read(0, size or path.stat().st_size):
        digest.update(block)
    entry = {"size": size or path.stat().st_size, "sha256": digest.hexdigest()}
    return entry if head is None else entry | {"head": base64.b64encode(head).decode()}
