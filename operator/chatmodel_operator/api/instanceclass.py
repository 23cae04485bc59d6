"""InstanceClass: a named machine size with a price, as StorageClass is for disks."""

from typing import Annotated, Any, Literal

import pydantic

from chatmodel_operator.api.fields import Body, cel

KIND = "InstanceClass"
DEFAULT_ANNOTATION = "carepath.ai/is-default-class"

Quantity = Annotated[
    str,
    pydantic.Field(
        max_length=20,
        pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
        json_schema_extra={"x-kubernetes-int-or-string": True},
    ),
    pydantic.BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
]


class Resources(Body):
    """Requests and limits of the serving container."""

    requests: dict[str, Quantity] = pydantic.Field(
        max_length=8, description="What the scheduler reserves, as cpu: 250m, memory: 1Gi."
    )
    limits: dict[str, Quantity] = pydantic.Field(
        max_length=8,
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


class Accelerator(Body):
    """GPUs, or what else a device plugin hands out."""

    resource_name: str = pydantic.Field(
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        description="The extended resource, as nvidia.com/gpu.",
    )
    count: int = pydantic.Field(default=1, ge=1, le=64, description="How many. Default: 1.")
    memory: Quantity | None = pydantic.Field(
        default=None, description="Memory of one, as 16Gi: models are checked against it."
    )


class Price(Body):
    """What one pod of the class costs."""

    hourly: str = pydantic.Field(
        pattern=r"^[0-9]+(\.[0-9]+)?$", description="Price of an hour, as 0.0416."
    )
    currency: str = pydantic.Field(
        default="USD", pattern=r"^[A-Z]{3}$", description="ISO 4217 code. Default: USD."
    )


_FIXED = (
    "resources",
    "accelerator",
    "nodeSelector",
    "tolerations",
    "runtimeClassName",
    "threads",
    "maxConcurrentRequests",
)


class InstanceClassSpec(Body):
    """A machine size. Immutable but for the price: a new size is a new class."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=cel(
            *(
                (
                    f"has(self.{name}) == has(oldSelf.{name})"
                    f" && (!has(self.{name}) || self.{name} == oldSelf.{name})",
                    f"{name} cannot be changed: make a new class",
                )
                for name in _FIXED
            ),
            *(
                (
                    f"!('{name}' in self.resources.requests && '{name}' in self.resources.limits)"
                    f" || quantity(string(self.resources.requests['{name}'])).compareTo("
                    f"quantity(string(self.resources.limits['{name}']))) <= 0",
                    f"the {name} request may not be larger than its limit",
                )
                for name in ("cpu", "memory")
            ),
        )
    )

    resources: Resources = pydantic.Field(description="Requests and limits of a pod.")
    accelerator: Accelerator | None = pydantic.Field(
        default=None, description="GPUs of a pod; none without."
    )
    node_selector: dict[str, str] | None = pydantic.Field(
        default=None, description="Node labels the pods need."
    )
    tolerations: list[Toleration] | None = pydantic.Field(
        default=None,
        max_length=32,
        description="Taints the pods tolerate.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    runtime_class_name: str | None = pydantic.Field(
        default=None, max_length=253, description="RuntimeClass of the pods, as nvidia."
    )
    threads: int | None = pydantic.Field(
        default=None,
        ge=1,
        le=1024,
        description="Threads of the engine. Default: from the CPUs of the container.",
    )
    max_concurrent_requests: int | None = pydantic.Field(
        default=None, ge=1, le=4096, description="Requests a pod works on at once. Default: 8."
    )
    price: Price | None = pydantic.Field(default=None, description="What an hour costs.")

    def pod_scheduling(self) -> dict[str, Any]:
        """Return the parts of a pod spec that say where the pods may run."""
        body = self.dump()
        keys = ("nodeSelector", "tolerations", "runtimeClassName")
        return {key: body[key] for key in keys if key in body}

    def pod_resources(self) -> dict[str, Any]:
        """Return requests and limits of the serving container, accelerators included."""
        body = self.resources.dump()
        if self.accelerator is None:
            return body
        extra = {self.accelerator.resource_name: str(self.accelerator.count)}
        return {key: value | extra for key, value in body.items()}
