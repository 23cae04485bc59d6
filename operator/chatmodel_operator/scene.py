"""What every rule looks at, and what a rule may write.

Made by `rollout` once a pass. Pure.
"""

import dataclasses
import datetime
import functools
from typing import Any

from chatmodel_operator import standing
from chatmodel_operator.api.chatmodel import ChatModelSpec
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Observed, Revision, format_time
from chatmodel_operator.settings import Settings, Timings

# The receipt of a swap, cleared together.
SWAP = ("swapStartedAt", "roomMadeAt", "swapUndoneAt", "outageSeconds")


@dataclasses.dataclass(frozen=True)
class Record:
    """A merge patch for the status of one revision, and the event it is worth."""

    revision: Revision
    status: dict[str, Any]
    reason: Reason | None = None
    message: str = ""


@dataclasses.dataclass(frozen=True)
class Scene:
    """What every rule looks at: the picture, its cast, the settings and the time."""

    observed: Observed
    cast: standing.Standing
    settings: Settings
    now: datetime.datetime

    @property
    def spec(self) -> ChatModelSpec:
        """The ChatModel's spec; a scene is only made of one that can be read."""
        assert self.observed.chatmodel.spec is not None
        return self.observed.chatmodel.spec

    @property
    def timings(self) -> Timings:
        return self.settings.timings

    @property
    def stamp(self) -> str:
        return format_time(self.now)

    @functools.cached_property
    def chosen(self) -> Revision | None:
        """The revision that should have the traffic now."""
        return standing.choose(self.observed, self.cast)

    @functools.cached_property
    def kept(self) -> frozenset[str]:
        """The names of the revisions whose pods are needed, the warm last good included."""
        return standing.keep(self.observed, self.cast, self.timings, self.now)
