"""ChatModels for fake nodes."""

from typing import Any

from kube import Body, Kube, chatmodel

CLASS = "fake"


def good(name: str, **spec: Any) -> Body:
    """Return a ChatModel that is good unless `spec` says otherwise."""
    body: dict[str, Any] = {
        "mode": "huggingface",
        "model": {"id": "demo/good"},
        "instanceClassName": CLASS,
        "rollout": {"bakeSeconds": 1},
    }
    return chatmodel(name, **(body | spec))


def start_good(kube: Kube, name: str) -> None:
    """Have a good model serve."""
    kube.apply(good(name))
    kube.wait_for_reason(name, "Serving")
