"""ChatModels for fake nodes."""

from collections.abc import Callable
from typing import Any

from kube import Body, Kube, chatmodel, wait_for
from oracles import canonical_end

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
    kube.wait_for_reason(name, "Serving", 120)


def tell(kube: Kube, name: str = "story", between: Callable[[], object] = lambda: None) -> Body:
    """Have a good model serve and a bad one refused, and return the canonical end.

    `between` is called when the good one serves and before the bad one is asked for.
    """
    start_good(kube, name)
    between()
    kube.patch(name, {"model": {"id": "demo/load-fail"}})
    kube.wait_for_reason(name, "RolledBack", 150)
    wait_for(lambda: len(serving_pods(kube, name)) == 1, "the refused pods to go")
    return canonical_end(kube, name)


def serving_pods(kube: Kube, name: str) -> list[str]:
    """Return the serving pods of a ChatModel, as `pod/NAME`."""
    selector = f"carepath.ai/chatmodel={name},carepath.ai/role=serve"
    return kube.run("get", "pods", "-l", selector, "-o", "name").split()
