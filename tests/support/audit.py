"""What the operator asked the API server for, and which statuses it wrote: `audit.py --since TIME`.

The last layer of `make test`. Reads the API server's audit log and the roles of the operator's
ServiceAccount in deploy/rbac.yaml. A request that was refused, one that no role allows, a right
that nobody used, a status that lies (`recorded`), and a log without a request or a status since
TIME all end it with 1. Never touches a cluster.
"""

import argparse
import collections
import datetime
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import recorded
import yaml

ROOT = pathlib.Path(__file__).parents[2]
NAMESPACE, ACCOUNT = "chatmodel-system", "chatmodel-operator"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
# API group, resource with its subresource, verb.
Right = tuple[str, str, str]
Body = dict[str, Any]


def granted(documents: Iterable[Body]) -> set[Right]:
    """Return the rights that all roles bound to the operator's ServiceAccount give it."""
    documents = [document for document in documents if document]
    bound = {
        (document["roleRef"]["kind"], document["roleRef"]["name"])
        for document in documents
        if document["kind"] in ("ClusterRoleBinding", "RoleBinding")
        and any(_is_ours(subject) for subject in document.get("subjects", ()))
    }
    return {
        (group, resource, verb)
        for document in documents
        if (document["kind"], document["metadata"]["name"]) in bound
        for rule in document["rules"]
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
        for verb in rule["verbs"]
    }


def _is_ours(subject: Body) -> bool:
    return (subject["kind"], subject["name"]) == ("ServiceAccount", ACCOUNT)


def read(folder: pathlib.Path, since: datetime.datetime) -> Iterator[Body]:
    """Yield everybody's requests since a time, from the log and what was rotated away."""
    for path in sorted(folder.glob("audit*.jsonl")):
        with path.open() as lines:
            for line in lines:
                if not line.endswith("\n"):
                    continue  # being written
                event = json.loads(line)
                at = datetime.datetime.fromisoformat(event["requestReceivedTimestamp"])
                if at >= since:
                    yield _slim(event)


def _slim(event: Body) -> Body:
    """Leave out what nobody looks at: the specs of objects above all."""
    event.pop("requestObject", None)
    if (body := event.get("responseObject")) is not None:
        event["responseObject"] = {k: v for k, v in body.items() if k != "spec"}
    return event


def events(of: Iterable[Body]) -> Iterator[Body]:
    """Yield the operator's own requests."""
    yield from (event for event in of if event["user"]["username"] == USER)


def rights_of(event: Body) -> list[Right]:
    """Return the rights a request needs: none when it is about no object, or open to everybody."""
    about = event.get("objectRef")
    if about is None or "resource" not in about:
        return []
    group = about.get("apiGroup", "")
    if group in ("authorization.k8s.io", "authentication.k8s.io"):
        return []
    resource = "/".join(filter(None, (about["resource"], about.get("subresource", ""))))
    found = [(group, resource, event["verb"])]
    # Applying what is not there creates it, and the API server asks for that right as well.
    if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
        found.append((group, resource, "create"))
    return found


def used(of: Iterable[Body]) -> collections.Counter[Right]:
    """Return how often each right was used, refused requests included."""
    return collections.Counter(right for event in of for right in rights_of(event))


def refused(of: Iterable[Body]) -> set[Right]:
    """Return what was asked for and answered with 403 for want of a right."""
    return {
        right
        for event in of
        if event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
        for right in rights_of(event)
    }


def faults(rights: set[Right], of: list[Body]) -> list[str]:
    """Return a sentence for each difference between rights and requests; none when they agree."""
    counts, denied = used(of), refused(of)
    if not counts:
        return ["the log holds no request of the operator in this run: was it audited?"]
    return [
        *(f"used, but not granted: {_words(right)}" for right in sorted(set(counts) - rights)),
        *(f"refused, though granted: {_words(right)}" for right in sorted(denied & rights)),
        *(f"granted, but never used: {_words(right)}" for right in sorted(rights - set(counts))),
    ]


def _words(right: Right) -> str:
    group, resource, verb = right
    return f"{verb} {resource}{'.' + group if group else ''}"


def table(rights: set[Right], counts: collections.Counter[Right]) -> str:
    """Return one line for each right: granted or not, and how often it was used."""
    lines = [f"{'resource':<46} {'verb':<8} {'granted':<8} {'used':>7}"]
    for right in sorted(rights | set(counts)):
        group, resource, verb = right
        name = f"{resource}{'.' + group if group else ''}"
        has = "yes" if right in rights else "no"
        lines.append(f"{name:<46} {verb:<8} {has:<8} {counts[right]:>7}")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and end with 1 when there is a fault."""
    parser = argparse.ArgumentParser(description="Compare the operator's requests with its rights.")
    parser.add_argument("--since", required=True, help="ISO 8601, as 2026-01-02T03:04:05+00:00")
    parser.add_argument("--logs", type=pathlib.Path, help="default: the embedded cluster's")
    parser.add_argument("--roles", type=pathlib.Path, default=ROOT / "deploy/rbac.yaml")
    args = parser.parse_args()
    logs = args.logs or _logs()
    everybody = list(read(logs, datetime.datetime.fromisoformat(args.since)))
    found = list(events(everybody))
    rights = granted(yaml.safe_load_all(args.roles.read_text()))
    print(table(rights, used(found)))
    wrong = faults(rights, found)
    print(
        f"{len(found)} audited requests since {args.since}, {len(wrong)} faults", *wrong, sep="\n"
    )
    told = recorded.count(everybody)
    lies = list(recorded.lies(everybody)) if told else ["no status was recorded: was it audited?"]
    print(f"{told} statuses were written, {len(lies)} lies", *lies, sep="\n")
    sys.exit(1 if wrong or lies else 0)


def _logs() -> pathlib.Path:
    sys.path.insert(0, str(ROOT))
    from devcluster.settings import Settings

    return Settings.of_environment().log


if __name__ == "__main__":
    main()
