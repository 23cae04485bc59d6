"""The floor: the same children and status as the operator's, without any decision.

    floor.py KUBECONFIG SAMPLE

Started by bench/operators.py as if it were an operator. For every ChatModel it writes each child
once, as it is in the end, and the status when the Deployment is ready, with the cheapest verbs. Two
watches, no reads, no question to a pod: nobody who writes these objects can ask less of the API
server.
"""

import asyncio
import json
import pathlib
import sys

import api
import sample

WORKERS = 16
MANAGER = {"fieldManager": "bench-floor"}


class Floor:
    """Writes what the sample says for each ChatModel."""

    def __init__(self, client: api.Api, texts: dict[str, str]) -> None:
        self._api = client
        self._texts = texts
        self._jobs: asyncio.Queue[tuple[str, api.Body]] = asyncio.Queue()
        self._chatmodels: dict[tuple[str, str], api.Body] = {}

    async def run(self) -> None:
        """Write for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_chatmodels())
            group.create_task(self._watch_deployments())
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _watch_chatmodels(self) -> None:
        async for change, body in self._api.watch("ChatModel"):
            if change == "ADDED":
                meta = body["metadata"]
                self._chatmodels[meta["namespace"], meta["name"]] = body
                self._jobs.put_nowait(("children", body))

    async def _watch_deployments(self) -> None:
        async for _, body in self._api.watch("Deployment", sample.LABEL):
            if body.get("status", {}).get("readyReplicas") == body["spec"]["replicas"]:
                meta = body["metadata"]
                key = meta["namespace"], meta["labels"][sample.LABEL]
                if (chatmodel := self._chatmodels.pop(key, None)) is not None:
                    self._jobs.put_nowait(("status", chatmodel))

    async def _work(self) -> None:
        while True:
            what, chatmodel = await self._jobs.get()
            if what == "children":
                await self._write_children(chatmodel)
            else:
                name = chatmodel["metadata"]["name"]
                await self._patch_status("status", "ChatModel", name, chatmodel)

    async def _write_children(self, chatmodel: api.Body) -> None:
        revision = sample.fill_in(self._texts["revision"], chatmodel)
        await self._create("ChatModelRevision", chatmodel)
        await self._patch_status("revision status", "ChatModelRevision", revision, chatmodel)
        for kind in ("ServiceAccount", "Secret", "Service", "NetworkPolicy", "Deployment"):
            await self._create(kind, chatmodel)

    async def _create(self, kind: str, chatmodel: api.Body) -> None:
        path = api.path_of(kind, chatmodel["metadata"]["namespace"])
        body = sample.fill_in(self._texts[kind], chatmodel)
        await self._api.text("POST", path, body, **MANAGER)

    async def _patch_status(self, text: str, kind: str, name: str, chatmodel: api.Body) -> None:
        path = api.path_of(kind, chatmodel["metadata"]["namespace"], name, "status")
        body = sample.fill_in(self._texts[text], chatmodel)
        await self._api.text("PATCH", path, body, api.MERGE, **MANAGER)


async def main() -> None:
    """Be the floor until SIGTERM."""
    kubeconfig, texts = map(pathlib.Path, sys.argv[1:3])
    async with api.Api(kubeconfig, WORKERS) as client:
        await Floor(client, json.loads(texts.read_text())).run()


if __name__ == "__main__":
    asyncio.run(main())
