"""What must hold after every fault, whatever it was: the same end, and nothing out of place.

Used by the tests on fake nodes. The numbers are those of the oracles in docs/faults.md.
"""

import re
from collections.abc import Iterable

from kube import Body, Kube

NOISE = re.compile(r"\[(ERROR|CRITICAL) *\]|^Traceback \(most recent call last\)|^\w*Error: ")

# kopf calls it an error when it asks the API server once more, or with a new login.
EXPECTED = re.compile(r"Request attempt #\d+ failed; (will retry|TCP closed)")


def canonical_end(kube: Kube, name: str) -> Body:
    """Return what must be the same (O1): no times, uids or versions, nothing a retry may repeat."""
    status = kube.get("chatmodel", name)["status"]
    revisions = kube.get("chatmodelrevisions")["items"]
    deployments = kube.get("deployments")["items"]
    return {
        "conditions": [(c["type"], c["status"], c["reason"]) for c in status["conditions"]],
        "serving": status.get("serving"),
        "target": status.get("target"),
        "lastFailure": status.get("lastFailure", {}).get("reason"),
        "revisions": {
            r["metadata"]["name"]: (r["spec"]["number"], r["status"]["verdict"]) for r in revisions
        },
        "templates": {r["metadata"]["name"]: r["spec"].get("template") for r in revisions},
        "replicas": {d["metadata"]["name"]: d["spec"]["replicas"] for d in deployments},
        "selector": kube.get("service", name)["spec"]["selector"],
    }


def find_misplaced(writes: Iterable[Body], namespace: str) -> list[Body]:
    """Return writes outside the namespace, and deletes that name no uid (O6)."""
    return [
        line
        for line in writes
        if f"/namespaces/{namespace}/" not in line["path"]
        or (line["verb"] == "DELETE" and not line.get("uid"))
    ]


def find_complaints(log: str) -> list[str]:
    """Return the lines of an operator's log that nobody should have to read (O9)."""
    return [line for line in log.splitlines() if NOISE.search(line) and not EXPECTED.search(line)]
