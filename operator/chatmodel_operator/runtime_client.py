"""The only I/O to runtime pods: questions to their management port.

Called by `questions`. Never raises: that a pod cannot be reached is an answer too.
"""

import dataclasses
from typing import Any

import aiohttp

from chatmodel_operator import names
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Pod, Revision

VERIFY_TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=5)
PROGRESS_TIMEOUT = aiohttp.ClientTimeout(total=5)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a pod's answer to the verification request came to; no reason means it was right."""

    reason: Reason | None
    message: str
    tokens: int = 0
    seconds: float = 0.0


async def verify(chatmodel: str, revision: Revision, pod: Pod) -> Answer:
    """Ask a pod for a real answer and compare who it says it is with who it should be."""
    url = f"http://{pod.ip}:{names.MANAGEMENT_PORT}/verify"
    try:
        async with (
            aiohttp.ClientSession(timeout=VERIFY_TIMEOUT) as session,
            session.post(url) as response,
        ):
            body = await response.json()
    except (TimeoutError, aiohttp.ClientError, ValueError, OSError) as error:
        text = f"pod {pod.name} could not be asked: {type(error).__name__}"
        return Answer(Reason.VerificationUnreachable, text)
    return _judge(_identity(chatmodel, revision), body if isinstance(body, dict) else {})


def _identity(chatmodel: str, revision: Revision) -> dict[str, Any]:
    return {
        "chatModel": chatmodel,
        "revision": revision.name,
        "mode": revision.spec.source.mode,
        "modelID": revision.spec.source.model_id,
        "commit": revision.spec.commit,
        "engine": revision.spec.engine,
    }


def _judge(identity: dict[str, Any], body: dict[str, Any]) -> Answer:
    if body.get("ok") is not True:
        message = str(body.get("message") or "the pod did not say ok")
        return Answer(Reason.VerificationFailed, message)
    wrong = [key for key, value in identity.items() if body.get(key) != value]
    if wrong:
        return Answer(Reason.VerificationFailed, f"the pod answers as another: {', '.join(wrong)}")
    tokens = body.get("tokens")
    if not isinstance(tokens, int) or tokens < 1:
        return Answer(Reason.VerificationFailed, "the answer was empty")
    return Answer(None, "", tokens, float(body.get("seconds") or 0.0))


async def progress(pod: Pod) -> tuple[int, int] | None:
    """Return (total, done) bytes of a pod that is fetching, or None when it does not say."""
    url = f"http://{pod.ip}:{names.MANAGEMENT_PORT}/progress"
    try:
        async with (
            aiohttp.ClientSession(timeout=PROGRESS_TIMEOUT) as session,
            session.get(url) as response,
        ):
            body = await response.json()
            return int(body["totalBytes"]), int(body["doneBytes"])
    except (TimeoutError, aiohttp.ClientError, ValueError, KeyError, TypeError, OSError):
        return None
