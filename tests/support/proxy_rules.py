"""Rules by which `fault_proxy` plays a bad API server, and what the proxy does by them.

The file of --rules is a JSON list of rules; the first that matches a request decides:

    {"action": ..., "verb": "GET", "path": "regex", "watch": true, "times": 3, ...}

    status      answer "status", with "headers", "reason" and "message"
    page        answer 200 with a page of HTML
    delay       forward after "seconds"
    drop-reply  forward, then cut the connection
    reset       cut the connection
    freeze      accept a watch, or keep one that is under way, and never send anything again
    close       accept a watch and end it at once
    error       accept a watch and send an error event with "code"
    late        pass the events of a watch on "seconds" later
    keep        forward, and keep the answer to a list for `stale`
    stale       answer a list as it was kept, else as it was answered the first time

A watch under way that matches a rule for lists or watches is cut, so that it is opened anew.
"""

import asyncio
import json
import pathlib
import re
from typing import Any

from aiohttp import web

ENDING = frozenset({"reset", "status", "page", "close", "error"})  # of a watch that is under way


class Rules:
    """The rules of a file, read again when it changes."""

    def __init__(self, path: pathlib.Path | None) -> None:
        self._path = path
        self._seen = 0
        self._rules: list[dict[str, Any]] = []

    def find(self, request: web.Request, *, is_new: bool = True) -> dict[str, Any]:
        """Return the rule for a request, or {}; a new request uses up one of its times."""
        self._read()
        for rule in self._rules:
            fits = (
                rule.get("times", 1) > 0
                and rule.get("verb", request.method) == request.method
                and re.search(rule.get("path", ""), request.path_qs)
                and rule.get("watch", is_watch(request)) == is_watch(request)
            )
            if fits:
                if is_new and "times" in rule:
                    rule["times"] -= 1
                return rule
        return {}

    def _read(self) -> None:
        if self._path is None or not self._path.exists():
            return
        changed = self._path.stat().st_mtime_ns
        if changed != self._seen:
            self._seen = changed
            self._rules = json.loads(self._path.read_text())


def is_watch(request: web.Request) -> bool:
    """Say whether a request is a watch."""
    return "watch" in request.query


async def play(
    request: web.Request, rule: dict[str, Any], kept: dict[str, bytes]
) -> web.StreamResponse | None:
    """Answer as a rule says, or return None for what the API server has to answer."""
    match rule.get("action"):
        case "status":
            message = rule.get("message", "the proxy says so")
            body = {"kind": "Status", "code": rule["status"], "message": message}
            body |= {"reason": rule["reason"]} if "reason" in rule else {}
            return web.json_response(body, status=rule["status"], headers=rule.get("headers"))
        case "page":
            return web.Response(text="<html>please log in</html>", content_type="text/html")
        case "delay":
            await asyncio.sleep(rule["seconds"])
        case "reset":
            return cut(request)
        case "freeze" | "close" | "error":
            return await _play_watch(request, rule)
        case "stale" if (old := kept.get(request.path)) is not None:
            return web.Response(body=old, content_type="application/json")
    return None


async def _play_watch(request: web.Request, rule: dict[str, Any]) -> web.StreamResponse:
    """Accept a watch, and be no good at it."""
    response = await _accept(request)
    if rule["action"] == "freeze":
        await asyncio.sleep(3600)
    if rule["action"] == "error":
        status = {"kind": "Status", "code": rule["code"], "message": "the proxy's error"}
        await response.write(_line({"type": "ERROR", "object": status}))
    return response


async def _accept(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    return response


def _line(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode() + b"\n"


def cut(request: web.Request) -> web.Response:
    """Cut the connection of a request."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)
