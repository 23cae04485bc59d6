"""Which web pages may read our answers in a browser (CORS): the administrator's list, none else.

Plain ASGI, put around everything by `app` when the list is not empty. A preflight needs no key, as
browsers send none. Never answers an origin that is not on the list, and never with `*`.
"""

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = "GET, POST"
HEADERS = "Authorization, Content-Type, X-API-Key"
PREFLIGHT_SECONDS = 600


class AllowOrigins:
    """Answer preflights of allowed origins, and name the origin on answers to it."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; a preflight of an allowed origin ends here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"origin", b"")
        origin = given.decode("latin-1") if given in self._origins else None
        is_preflight = scope["method"] == "OPTIONS" and b"access-control-request-method" in headers
        if origin is not None and is_preflight:
            await _allow(origin)(scope, receive, send)
            return

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                named = MutableHeaders(scope=message)
                named.add_vary_header("Origin")  # for caches, also when nothing is allowed
                if origin is not None:
                    named["Access-Control-Allow-Origin"] = origin
                    named["Access-Control-Expose-Headers"] = "Retry-After"
            await send(message)

        await self._app(scope, receive, send_named)


def _allow(origin: str) -> Response:
    headers = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": HEADERS,
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        "Vary": "Origin",
    }
    return Response(status_code=204, headers=headers)
