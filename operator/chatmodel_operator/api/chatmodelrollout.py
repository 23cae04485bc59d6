"""`spec.rollout` of a ChatModel: how one revision replaces another. Used by `chatmodel`."""

from typing import Literal

import pydantic

from chatmodel_operator.api.fields import OBJECT_NAME, Body


class Rollout(Body):
    """How one revision replaces another."""

    strategy: Literal["Auto", "Surge", "Recreate"] = pydantic.Field(
        default="Auto",
        description=(
            "Surge: the new revision starts beside the serving one. Recreate: the serving one"
            " stops first. Auto: as Surge, and as Recreate when the scheduler finds no room for"
            " both. Default: Auto."
        ),
    )
    failure_policy: Literal["Rollback", "Hold"] = pydantic.Field(
        default="Rollback",
        description=(
            "When a revision turns out bad under traffic: Rollback to the last good one, or Hold"
            " traffic where it is and say so. Before it has traffic, both withdraw it."
            " Default: Rollback."
        ),
    )
    paused: bool = pydantic.Field(
        default=False,
        description=(
            "Take no step forward: no new candidate, no switch, no retirement. Scaling, repair and"
            " going back still happen. Default: false."
        ),
    )
    pinned_revision: str | None = pydantic.Field(
        default=None,
        min_length=1,
        max_length=63,
        pattern=OBJECT_NAME,
        description=(
            "Rollback by hand: the name of a Verified ChatModelRevision of this ChatModel that"
            " shall serve, whatever the rest of spec says."
        ),
    )
    restart_token: str | None = pydantic.Field(
        default=None,
        max_length=253,
        description=(
            "Any text; another one starts the same model anew, as a new revision with the same"
            " commit."
        ),
    )
    capacity_wait_seconds: int = pydantic.Field(
        default=20,
        ge=1,
        le=3600,
        description=(
            "With Auto: seconds the scheduler must have found no room before the serving pods"
            " make room. Default: 20."
        ),
    )
    progress_deadline_seconds: int | None = pydantic.Field(
        default=None,
        ge=10,
        le=86400,
        description=(
            "Seconds without progress (a step left, or bytes moved) after which the candidate is"
            " given up. Default: computed from the bytes to download."
        ),
    )
    bake_seconds: int = pydantic.Field(
        default=60,
        ge=0,
        le=86400,
        description=(
            "Seconds a new revision is watched under traffic before it counts as good; the old"
            " pods stay warm until then. Default: 60."
        ),
    )
    history_limit: int = pydantic.Field(
        default=5,
        ge=1,
        le=50,
        description="How many revisions that neither serve nor are wanted are kept. Default: 5.",
    )
