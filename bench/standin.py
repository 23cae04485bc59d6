"""The management port of all fake pods, at no cost to the API server but one watch.

    standin.py KUBECONFIG            # inside node 1's network namespace, port 9090

Answers as tests/support/standin_runtime.py does, whose answers it imports. That one asks the API
server for each question, which would be charged to the operators that ask and not to the floor.
"""

import asyncio
import contextlib
import pathlib
import sys
from typing import Any

import api
from aiohttp import web

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests/support"))
import standin_runtime

SERVING_PODS = "carepath.ai/role=serve"
PATIENCE = 200  # hundredths of a second


class Picture:
    """Which pod is at which address."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[str, dict[str, Any] | None]] = {}

    def change(self, change: str, pod: api.Body) -> None:
        """Take in one event of a watch."""
        address, uid = pod.get("status", {}).get("podIP"), pod["metadata"]["uid"]
        if not address:
            return
        known = self._pods.get(address, ("", None))[0]
        if change == "DELETED" and known == uid:
            del self._pods[address]
        elif change != "DELETED" and known != uid:
            self._pods[address] = uid, standin_runtime.read_config(pod)

    async def find(self, address: str) -> dict[str, Any] | None:
        """Return the configuration at an address; whoever asks may know of it before we do."""
        for _ in range(PATIENCE):
            if address in self._pods:
                break
            await asyncio.sleep(0.01)
        return self._pods.get(address, ("", None))[1]


async def main() -> None:
    """Answer until SIGTERM."""
    picture = Picture()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        config = await picture.find(request.transport.get_extra_info("sockname")[0])
        found = standin_runtime.build_answer(config or {}, request.method, request.path)
        if config is None or found is None:
            raise web.HTTPServiceUnavailable
        return web.json_response(found[1], status=found[0])

    server = web.Application()
    server.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", standin_runtime.PORT, backlog=1024).start()
    async with api.Api(pathlib.Path(sys.argv[1])) as client:
        while True:  # the API server ends a watch after half an hour or more
            with contextlib.suppress(api.Refused):
                async for change, pod in client.watch("Pod", SERVING_PODS):
                    picture.change(change, pod)


if __name__ == "__main__":
    asyncio.run(main())
