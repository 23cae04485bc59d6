"""Between the operator and the API server: it counts, kills the operator, and plays a bad server.

    fault_proxy.py KUBECONFIG [--kill N --phase before|after] [--rules FILE] [--trace] -- COMMAND...

Runs COMMAND with a kubeconfig that leads through here, forwards everything, and starts COMMAND
again after a kill. Each write is one JSON line on standard output, with --trace each request, and
each start and end of COMMAND, as well. `before`: SIGKILL, and the write is never forwarded;
`after`: it is forwarded and done, and SIGKILL comes before the reply. Ends with SIGTERM, the
operator first. FILE is a JSON list of rules, which `proxy_rules` plays; it may change at any time.
"""

import argparse
import asyncio
import base64
import json
import os
import pathlib
import signal
import ssl
import sys
import tempfile
from typing import Any

import aiohttp
from aiohttp import web
from proxy_rules import ENDING, Rules, cut, is_watch, play

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HOP_HEADERS = frozenset({"host", "connection", "transfer-encoding", "content-length"})


def load_upstream(path: pathlib.Path) -> tuple[str, ssl.SSLContext, dict[str, str]]:
    """Return server, TLS context and headers of a kubeconfig with a token or a certificate."""
    config = json.loads(path.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    if "token" in user:
        return cluster["server"], context, {"Authorization": f"Bearer {user['token']}"}
    with tempfile.NamedTemporaryFile() as file:
        for key in ("client-certificate-data", "client-key-data"):
            file.write(base64.b64decode(user[key]))
        file.flush()
        context.load_cert_chain(file.name)
    return cluster["server"], context, {}


class Proxy:
    """One operator, one API server, at most one kill."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.server, self.tls, self.identity = load_upstream(args.kubeconfig)
        self.rules = Rules(args.rules)
        self.first: dict[str, bytes] = {}  # the first answer to every list
        self.writes = 0
        self.process: asyncio.subprocess.Process | None = None
        self.session: aiohttp.ClientSession | None = None
        self.ended = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Forward one request, unless a rule says otherwise; a write may be the operator's last."""
        phase = ""
        if request.method in WRITES:
            self.writes += 1
            phase = self.args.phase if self.writes == self.args.kill else ""
        body = await request.read()
        if request.method in WRITES:
            line = {"write": self.writes, "verb": request.method, "path": request.path}
            print(json.dumps(line | _guards(body)), flush=True)
        self._trace(request)
        if phase == "before":
            self.kill()
            return web.Response(status=503)
        rule = self.rules.find(request)
        self._say_played(request, rule)
        answer = await play(request, rule, self.first)
        if answer is not None:
            return answer
        return await self._forward(request, body, phase, rule)

    def _trace(self, request: web.Request) -> None:
        if self.args.trace:
            line = {
                "verb": request.method,
                "request": request.path,
                "watch": is_watch(request),
                "at": asyncio.get_running_loop().time(),
            }
            print(json.dumps(line), flush=True)

    def _say_played(self, request: web.Request, rule: dict[str, Any]) -> None:
        if self.args.trace and rule:
            line = {"played": rule["action"], "verb": request.method, "path": request.path}
            print(json.dumps(line), flush=True)

    async def _forward(
        self, request: web.Request, body: bytes, phase: str, rule: dict[str, Any]
    ) -> web.StreamResponse:
        assert self.session is not None
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_HEADERS}
        headers |= self.identity
        try:
            async with self.session.request(
                request.method, self.server + request.path_qs, data=body or None, headers=headers
            ) as answer:
                if phase == "after":
                    await answer.read()
                    self.kill()
                    return web.Response(status=503)
                if rule.get("action") == "drop-reply":
                    await answer.read()
                    return cut(request)
                if request.method == "GET" and not is_watch(request) and answer.status == 200:
                    await self._keep(request, answer, rule)
                return await self._pass_on(request, answer)
        except aiohttp.ClientConnectionError:
            return cut(request)  # the API server is away, and so are we

    async def _keep(
        self, request: web.Request, answer: aiohttp.ClientResponse, rule: dict[str, Any]
    ) -> None:
        if rule.get("action") == "keep":
            self.first[request.path] = await answer.read()
        else:
            self.first.setdefault(request.path, await answer.read())

    async def _pass_on(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_HEADERS}
        kept.pop("Content-Encoding", None)
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        try:
            if is_watch(request):
                await self._pass_events_on(request, answer, response)
            else:
                await response.write(await answer.read())
            await response.write_eof()
        except (aiohttp.ClientError, ConnectionError):
            return response  # the operator is gone, or the server ended a watch
        return response

    async def _pass_events_on(
        self, request: web.Request, answer: aiohttp.ClientResponse, response: web.StreamResponse
    ) -> None:
        reading = asyncio.ensure_future(answer.content.readany())
        frozen = False
        try:
            while True:
                await asyncio.wait({reading}, timeout=0.2)
                rule = self.rules.find(request, is_new=False)
                action = rule.get("action")
                if action == "freeze" and not frozen:
                    frozen = True
                    self._say_played(request, rule)
                if action in ENDING:
                    self._say_played(request, rule)
                    cut(request)
                    return
                if not reading.done():
                    continue
                data = reading.result()
                if not data:
                    return
                if action == "late":
                    self._say_played(request, rule)
                    await asyncio.sleep(rule["seconds"])
                if not frozen:
                    await response.write(data)
                reading = asyncio.ensure_future(answer.content.readany())
        finally:
            reading.cancel()

    def kill(self) -> None:
        """End the operator as the kernel would."""
        assert self.process is not None
        print(json.dumps({"killed": self.args.phase, "write": self.writes}), flush=True)
        self.process.kill()

    async def supervise(self, kubeconfig: str) -> None:
        """Run the operator, again whenever it ended."""
        env = {**os.environ, "KUBECONFIG": kubeconfig}
        while not self.ended.is_set():
            self.process = await asyncio.create_subprocess_exec(*self.args.command, env=env)
            if self.args.trace:
                print(json.dumps({"started": self.process.pid}), flush=True)
            waiting = asyncio.ensure_future(self.process.wait())
            ending = asyncio.ensure_future(self.ended.wait())
            await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if self.ended.is_set() and self.process.returncode is None:
                self.process.terminate()
                await waiting
            if self.args.trace:
                print(json.dumps({"ended": self.process.returncode}), flush=True)
            ending.cancel()

    async def run(self) -> None:
        """Serve on a free loopback port until SIGTERM."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.ended.set)
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(ssl=self.tls, limit=0)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=connector, auto_decompress=True
        ) as self.session:
            app = web.Application(client_max_size=1 << 25)
            app.router.add_route("*", "/{path:.*}", self.handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            with tempfile.NamedTemporaryFile("w", suffix=".kubeconfig") as file:
                json.dump(_kubeconfig(port), file)
                file.flush()
                await self.supervise(file.name)
            await runner.cleanup()


def _guards(body: bytes) -> dict[str, Any]:
    """Return what a write asks the API server to check: the uid of a delete, or of an apply."""
    try:
        sent = json.loads(body)
        held = sent["preconditions"] if sent.get("kind") == "DeleteOptions" else sent["metadata"]
        return {"uid": held["uid"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _kubeconfig(port: int) -> dict[str, Any]:
    cluster = {"server": f"http://127.0.0.1:{port}"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": cluster}],
        "users": [{"name": "proxy", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        "current-context": "proxy",
    }


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description="Kill an operator at one of its writes.")
    parser.add_argument("kubeconfig", type=pathlib.Path, help="JSON, with a token or a certificate")
    parser.add_argument("--kill", type=int, default=0, help="number of the write, from 1")
    parser.add_argument("--phase", choices=("before", "after"), default="after")
    parser.add_argument("--rules", type=pathlib.Path, help="what the server does badly")
    parser.add_argument("--trace", action="store_true", help="print every request")
    parser.add_argument("command", nargs="+", help="the operator")
    asyncio.run(Proxy(parser.parse_args()).run())


if __name__ == "__main__":
    sys.exit(main())
