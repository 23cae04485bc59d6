"""InstanceClass: a named machine size with a price, as StorageClass is for disks."""

from typing import Annotated, Any, Literal

import pydantic

from chatmodel_operator.api.fields import Body, cel

KIND = "InstanceClass"
DEFAULT_ANNOTATION = "carepath.ai/is-default-class"

Quantity = Annotated[
    str,
    pydantic.Field(
        pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
        json_schema_extra={"x-kubernetes-int-or-string": True},
    ),
    pydantic.BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
]


class Resources(Body):
    """Requests and limits of the serving container."""

    requests: dict[str, Quantity] = pydantic.Field(
        description="What the scheduler reserves, as cpu: 250m, memory: 1Gi."
    )
    limits: dict[str, Quantity] = pydantic.Field(
        description="What the container may use; memory is required.",
        json_schema_extra=cel(("'memory' in self", "a memory limit is required")),
    )


class Toleration(Body):
    """A toleration, as on a pod."""

    key: str | None = pydantic.Field(default=None, description="Taint key; none means all.")
    operator: Literal["Exists", "Equal"] | None = pydantic.Field(
        default=None, description="Exists or Equal."
    )
    value: str | None = pydantic.Field(default=None, description="Taint value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = pydantic.Field(
        default=None, description="Taint effect; none means all."
    )


class Price(Body):
    """What one pod of the class costs."""

    hourly: str = pydantic.Field(
        pattern=r"^[0-9]+(\.[0-9]+)?$", description="Price of an hour, as 0.0416."
    )
    currency: str = pydantic.Field(
        default="USD", pattern=r"^[A-Z]{3}$", description="ISO 4217 code. Default: USD."
    )


class InstanceClassSpec(Body):
    """A machine size. Immutable but for the price: a new size is a new class."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=cel(
            ("self.resources == oldSelf.resources", "resources are immutable: make a new class"),
            *(
                (
                    f"has(self.{name}) == has(oldSelf.{name})"
                    f" && (!has(self.{name}) || self.{name} == oldSelf.{name})",
                    f"{name} is immutable: make a new class",
                )
                for name in ("nodeSelector", "tolerations")
            ),
        )
    )

    resources: Resources = pydantic.Field(description="Requests and limits of a pod.")
    node_selector: dict[str, str] | None = pydantic.Field(
        default=None, description="Node labels the pods need."
    )
    tolerations: list[Toleration] | None = pydantic.Field(
        default=None,
        max_length=32,
        description="Taints the pods tolerate.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    price: Price | None = pydantic.Field(default=None, description="What an hour costs.")

    def pod_scheduling(self) -> dict[str, Any]:
        """Return the parts of a pod spec that say where the pods may run."""
        body = self.dump()
        return {key: body[key] for key in ("nodeSelector", "tolerations") if key in body}
