"""What the administrator decides: images, hub, timings. Read once at start from a YAML file.

The file is named by CHATMODEL_OPERATOR_SETTINGS; `deploy/` mounts a ConfigMap there. Authors of
ChatModels can change none of it.
"""

import pathlib
from typing import Literal

import pydantic
import yaml
from pydantic.alias_generators import to_camel

ENV_FILE = "CHATMODEL_OPERATOR_SETTINGS"


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class Images(_Part):
    """Runtime images by engine. Pin them by digest in production."""

    mock: str = "localhost/chatmodel-runtime:mock"
    transformers: str = "localhost/chatmodel-runtime:cpu"


class Hub(_Part):
    """Where models come from."""

    endpoint: str | None = None  # None: the hub library's own default


class Timings(_Part):
    """Seconds; the defaults are the contract with the runtime (docs/design.md, section 5)."""

    max_connection_age_seconds: int = pydantic.Field(default=5, ge=1)
    drain_seconds: int = pydantic.Field(default=10, ge=0)
    request_deadline_seconds: int = pydantic.Field(default=600, ge=1)
    inspect_retry_seconds: int = pydantic.Field(default=30, ge=1)
    resync_seconds: int = pydantic.Field(default=300, ge=10)


class Settings(_Part):
    """All of the operator's settings."""

    # The namespaces to look at, as given to kopf with -n; none means all of them.
    namespaces: tuple[str, ...] = ()
    images: Images = Images()
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    hub: Hub = Hub()
    timings: Timings = Timings()


def load(path: str | None) -> Settings:
    """Return the settings of the file, or the defaults without one.

    Raises `ValueError` naming the wrong field, and `OSError` when the file cannot be read.
    """
    if not path:
        return Settings()
    return Settings.model_validate(yaml.safe_load(pathlib.Path(path).read_text()) or {})
