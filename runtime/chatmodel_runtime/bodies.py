"""Routes whose JSON body is checked straight from its bytes, in one pass.

Used by `app` and `openai_api`, inside `limits`. FastAPI looks at the content type, parses into
dicts, solves dependencies, of which there are none, and checks the dicts. It still describes the
routes, and what does not fit goes its way and gets its words. Never repeats a body.
"""

from typing import Any

import pydantic
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from chatmodel_runtime import limits


class JsonRoute(APIRoute):
    """A route of `async def endpoint(body: Model, request: Request) -> Response`."""

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._model: type[pydantic.BaseModel] = endpoint.__annotations__["body"]
        self._by_fastapi = self.app
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = (await receive()).get("body", b"")  # all of it: `limits` has gathered it
        try:
            body = self._model.model_validate_json(given)
        except pydantic.ValidationError:
            await self._by_fastapi(scope, limits.replay(given, receive), send)
            return
        response: Response = await self.endpoint(body, Request(scope, receive, send))
        await response(scope, receive, send)
