"""Pods of a candidate as the API server shows them, and the sign they give: for tests of signs."""

import datetime
import json
from typing import Any

from pictures import (
    NOW,
    Body,
    at,
    chatmodel,
    make_revision,
    picture,
    raw_container,
    raw_pod,
    waiting,
)

from chatmodel_operator import failures, names
from chatmodel_operator.observed import Deployment, Observed, Revision

SINCE = NOW - datetime.timedelta(seconds=120)
CANDIDATE = make_revision(2, status={"startedAt": at(-120)})


def report(reason: str, message: str = "as the runtime said") -> str:
    return json.dumps({"reason": reason, "message": message, "retryable": False})


def see(*pods: Body, revision: Revision = CANDIDATE, refused: str = "") -> Observed:
    found = {revision.name: Deployment(1, refused)} if refused else {}
    return picture(chatmodel(), revision, pods=pods, deployments=found)


def sign_of(*pods: Body, **more: Any) -> failures.Sign | None:
    which = more.get("revision", CANDIDATE)
    return failures.find_sign(see(*pods, **more), which, SINCE)


def serve(state: Body | None = None, restarts: int = 0, last: Body | None = None) -> Body:
    container = raw_container(names.CONTAINER_SERVE, state=state, restarts=restarts, last=last)
    return raw_pod(CANDIDATE, containers=[container])


def stage(state: Body, last: Body | None = None) -> Body:
    init = raw_container(names.CONTAINER_STAGE, state=state, last=last)
    later = raw_container(state=waiting("PodInitializing"))
    return raw_pod(CANDIDATE, init=[init], containers=[later])


def inspect(state: Body, name: str = "inspect-1") -> Body:
    container = raw_container(names.CONTAINER_INSPECT, state=state)
    return raw_pod(CANDIDATE, role=names.ROLE_INSPECT, name=name, containers=[container])


def unschedulable(message: str) -> Body:
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return raw_pod(CANDIDATE, conditions=[said | {"message": message}])
