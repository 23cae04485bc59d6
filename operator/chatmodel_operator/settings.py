"""What the administrator decides: images, hub, timings. Read once at start from a YAML file.

The file is named by CHATMODEL_OPERATOR_SETTINGS; `deploy/` mounts a ConfigMap there. Authors of
ChatModels can change none of it.
"""

import pathlib
import re
from typing import Annotated, Literal, Self

import pydantic
import yaml
from pydantic.alias_generators import to_camel

from chatmodel_operator import names
from chatmodel_operator.api.chatmodel import Quantization

ENV_FILE = "CHATMODEL_OPERATOR_SETTINGS"

ORIGIN = r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$"  # of a web page; never "*"


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class Images(_Part):
    """Runtime images by engine. Pin them by digest in production."""

    mock: str = "localhost/chatmodel-runtime:mock"
    transformers: str = "localhost/chatmodel-runtime:cpu"
    # The cpu image has both engines, so that who names one has named the other.
    openvino: str | None = pydantic.Field(default_factory=lambda named: named["transformers"])
    vllm: str | None = None  # None: no ChatModel can have this engine

    def of(self, engine: str) -> str | None:
        """Return the image of an engine, or None when the administrator named none."""
        image = getattr(self, engine.lower())
        return str(image) if image is not None else None


class Embedded(_Part):
    """A model inside a runtime image, at /models in the usual layout."""

    model_id: str = pydantic.Field(alias="modelID")
    commit: str = pydantic.Field(pattern=r"^[0-9a-f]{40}$")
    quantization: Quantization = "None"  # what QUANTIZATION was when the image was built
    weight_bytes: int = pydantic.Field(ge=0)
    formats: tuple[str, ...] = ("safetensors",)
    image: str


class Peer(_Part):
    """Addresses, and the ports there that pods may reach; no ports means all of them."""

    cidr: str
    ports: tuple[int, ...] = ()


class Network(_Part):
    """What the NetworkPolicy of a ChatModel lets through. A policy knows no host names."""

    enabled: bool = True
    hub: tuple[Peer, ...] = (Peer(cidr="0.0.0.0/0"), Peer(cidr="::/0"))
    patient_api: tuple[Peer, ...] = (Peer(cidr="0.0.0.0/0"), Peer(cidr="::/0"))
    # Namespaces, by name, whose pods may reach the management port: the operator's, the scraper's.
    management_namespaces: tuple[str, ...] = (names.SYSTEM_NAMESPACE,)
    # Web pages, as https://chat.example.org, that browsers may let read the answers.
    allowed_origins: tuple[Annotated[str, pydantic.Field(pattern=ORIGIN)], ...] = ()


class Prices(_Part):
    """What the InstanceClasses do not know."""

    storage_gib_month: str | None = pydantic.Field(default=None, pattern=r"^[0-9]+(\.[0-9]+)?$")


class Hub(_Part):
    """Where models come from."""

    endpoint: str | None = None  # None: the hub library's own default
    # Bytes of a Secret that do not match are not sent anywhere: an author may have named another.
    token_pattern: str = r"(hf|api_org)_[A-Za-z0-9]{8,}"

    @pydantic.field_validator("token_pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern


class Allowed(_Part):
    """What authors may choose; `*` stands for anything."""

    models: tuple[str, ...] = ("*",)  # org/name
    commits_only: bool = False  # whether model.revision must be a 40-hex commit
    patient_api_hosts: tuple[str, ...] = ("*",)


class Limits(_Part):
    """What a pod lets clients do."""

    # Answers, on average, and by each pod for itself; None: any number.
    requests_per_minute_per_key: int | None = pydantic.Field(default=None, ge=1)


class Timings(_Part):
    """Seconds; the defaults are the contract with the runtime (docs/design.md, section 5)."""

    max_connection_age_seconds: int = pydantic.Field(default=5, ge=1)
    drain_seconds: int = pydantic.Field(default=10, ge=0)
    # What a candidate that was given up has to finish its answers.
    abandoned_seconds: int = pydantic.Field(default=10, ge=1)
    request_deadline_seconds: int = pydantic.Field(default=600, ge=1)
    inspect_retry_seconds: int = pydantic.Field(default=30, ge=1)
    resync_seconds: int = pydantic.Field(default=300, ge=10)


class LeaderElection(_Part):
    """With it several operators can be there at once; one works, the others stand by."""

    enabled: bool = False  # `kopf run` on a laptop needs no Lease; deploy/operator.yaml says true
    lease_duration_seconds: int = pydantic.Field(default=15, ge=3)
    renew_deadline_seconds: int = pydantic.Field(default=10, ge=2)
    retry_seconds: int = pydantic.Field(default=2, ge=1)

    @pydantic.model_validator(mode="after")
    def _leave_time_to_stop(self) -> Self:
        if self.lease_duration_seconds <= self.renew_deadline_seconds:
            raise ValueError("leaseDurationSeconds has to be more than renewDeadlineSeconds")
        if self.renew_deadline_seconds < 2 * self.retry_seconds:
            raise ValueError("renewDeadlineSeconds has to be at least twice retrySeconds")
        return self


class Settings(_Part):
    """All of the operator's settings."""

    # The namespaces to look at, as given to kopf with -n; none means all of them.
    namespaces: tuple[str, ...] = ()
    images: Images = Images()
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    hub: Hub = Hub()
    allowed: Allowed = Allowed()
    embedded: tuple[Embedded, ...] = ()
    network: Network = Network()
    prices: Prices = Prices()
    limits: Limits = Limits()
    timings: Timings = Timings()
    leader_election: LeaderElection = LeaderElection()
    # Of /livez, /readyz and /metrics; none: not served, so that two can run on a laptop.
    health_port: int | None = pydantic.Field(default=None, ge=1, le=65535)


def load(path: str | None) -> Settings:
    """Return the settings of the file, or the defaults without one.

    Raises `ValueError` naming the wrong field, and `OSError` when the file cannot be read.
    """
    if not path:
        return Settings()
    return Settings.model_validate(yaml.safe_load(pathlib.Path(path).read_text()) or {})
