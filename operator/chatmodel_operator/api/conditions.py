"""The condition type of every status, and the names of our conditions."""

from typing import Literal

import pydantic

from chatmodel_operator.api.fields import Body, Timestamp

READY = "Ready"
AVAILABLE = "Available"
PROGRESSING = "Progressing"
MODEL_CACHED = "ModelCached"
DEGRADED = "Degraded"
STALLED = "Stalled"

# Abnormal-true conditions are absent while false, as kstatus asks.
ORDER = (READY, AVAILABLE, PROGRESSING, MODEL_CACHED, DEGRADED, STALLED)


class Condition(Body):
    """One condition, as `metav1.Condition`."""

    type: str = pydantic.Field(description="Name of the condition.")
    status: Literal["True", "False", "Unknown"] = pydantic.Field(description="True or not.")
    reason: str = pydantic.Field(
        min_length=1, description="One CamelCase word; the documentation lists them."
    )
    message: str = pydantic.Field(max_length=4096, description="A sentence with numbers.")
    last_transition_time: Timestamp = pydantic.Field(description="When status last changed.")
    observed_generation: int = pydantic.Field(description="The generation it was seen at.")
