"""Write docs/rollout.md: every decision of a rollout as prose, and the films that show it.

    python tests/support/decision_table.py [--check]

The prose of a rule is its docstring, in the order in which the operator asks; films are told anew
and the decisions in them noted. A decision that no film shows is an error.
"""

import argparse
import collections
import contextlib
import dataclasses
import inspect
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from unittest import mock

import stories
import telling
import tiny_cluster
from tiny_world import Raw

from chatmodel_operator import capacity, leftovers, records, rollout, standing
from chatmodel_operator.api.reasons import Class, Reason
from chatmodel_operator.api.reasons_explained import EXPLANATIONS
from chatmodel_operator.rollout import Plan
from chatmodel_operator.scene import Record, Scene

PAGE = pathlib.Path(__file__).parents[2] / "docs/rollout.md"
SHOWN = 3  # films named per decision
HEAD = """# What a rollout decides

Written by `python tests/support/decision_table.py` from the rules' own words and from the films in
`tests/golden/rollouts`; `make check` compares. A rule without a film is an error.

A pass takes one picture of the cluster and asks, in this order: which revision is meant, whether
something must be recorded on a revision first, and, if not, what should exist. It does the first
thing that is to be done and looks again, so that a crash between two steps changes nothing but the
time. Words: *target* is what the spec asks for, *wanted* the target or, when that is bad, the last
good one, *serving* what the Service selects.
"""
CHOOSING: dict[str, tuple[str, Callable[[Plan], bool]]] = {
    "The spec cannot be read": (
        "nothing is written to children; the status says what is wrong with which field",
        lambda plan: plan.reason is Reason.InvalidSpec,
    ),
    "A Deployment's revision is gone": (
        "the revision is made again from what its Deployment was stamped with",
        lambda plan: plan.create is not None and plan.create.template is not None,
    ),
    "A pinned revision is Verified": (
        "it is the target, whatever the rest of the spec says",
        lambda plan: plan.cast is not None and plan.cast.is_pinned,
    ),
    "A pinned revision is not Verified, or not there": (
        "what serves stays as it is, with RollbackUnavailable",
        lambda plan: plan.reason is Reason.RollbackUnavailable,
    ),
    "The administrator does not allow the model": (
        "what serves stays as it is, with NotAllowed; a model that serves already goes on",
        lambda plan: plan.reason is Reason.NotAllowed,
    ),
    "No revision has this spec's source": (
        "a revision is made, with the next number",
        lambda plan: plan.create is not None and plan.create.template is None,
    ),
    "The wanted revision's template can be rendered": (
        "engine, class, memory and pod template are fixed on it for good",
        lambda plan: plan.prepare is not None,
    ),
}
UNSEEN = {
    Reason.Pending: "the API server's default, before any pass",
    Reason.Switching: "only while a watch has not told of the switch; films have no such delay",
}
ACTS: tuple[tuple[str, tuple[Callable[..., object], ...]], ...] = (
    ("Who gets the traffic", (standing.choose, standing.keep, standing.settled_at)),
    (
        "How many pods each revision gets, and when a serving one makes room",
        (
            capacity.plan_replicas,
            capacity.find_need,
            capacity.is_swap_due,
            capacity.capacity_wait,
            capacity.find_obstacle,
            capacity.is_swap_in_vain,
        ),
    ),
    ("What is cleared away", (leftovers.beyond_history, leftovers.lingering)),
)


@dataclasses.dataclass
class Seen:
    """Which films show what."""

    choices: dict[str, list[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )
    rules: dict[str, list[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )
    reasons: dict[Reason, list[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )


def watch_films(names: Iterable[str]) -> Seen:
    """Tell films, and return what was decided in each."""
    seen = Seen()
    for name in names:
        with _noting(seen, name):
            telling.clear()
            telling.film(name)
    telling.clear()
    return seen


@contextlib.contextmanager
def _noting(seen: Seen, film: str) -> Iterator[None]:
    rules = tuple(_noted(rule, seen.rules, film) for rule in records.RULES)
    plan_rollout = rollout.plan_rollout

    def plan_and_note(*args: object) -> Plan:
        with mock.patch.object(records, "RULES", rules):
            plan = plan_rollout(*args)  # type: ignore[arg-type]
        for title, (_, fits) in CHOOSING.items():
            if fits(plan):
                _note(seen.choices[title], film)
        return plan

    patch_status = tiny_cluster.TinyCluster.patch_status

    def patch_and_note(api: tiny_cluster.TinyCluster, chatmodel: object, status: Raw) -> object:
        for condition in status["conditions"]:
            _note(seen.reasons[Reason(condition["reason"])], film)
        return patch_status(api, chatmodel, status)

    with (
        mock.patch.object(rollout, "plan_rollout", plan_and_note),
        mock.patch.object(tiny_cluster.TinyCluster, "patch_status", patch_and_note),
    ):
        yield


def _noted(
    rule: Callable[[Scene], Record | None], where: dict[str, list[str]], film: str
) -> Callable[[Scene], Record | None]:
    def ask(scene: Scene) -> Record | None:
        record = rule(scene)
        if record is not None:
            _note(where[rule.__name__], film)
        return record

    return ask


def _note(films: list[str], film: str) -> None:
    if film not in films:
        films.append(film)


def missing(seen: Seen) -> list[str]:
    """Return the decisions that no film shows."""
    states = {r for r, e in EXPLANATIONS.items() if e.klass is Class.STATE} - set(UNSEEN)
    lacking = [title for title in CHOOSING if not seen.choices[title]]
    lacking += [rule.__name__ for rule in records.RULES if not seen.rules[rule.__name__]]
    return lacking + sorted(states - {reason for reason, films in seen.reasons.items() if films})


def build_page(seen: Seen) -> Iterator[str]:
    """Yield the page's lines."""
    yield HEAD
    yield from ("## Which revision is meant", "", "| when | then | films |", "| --- | --- | --- |")
    for title, (then, _) in CHOOSING.items():
        yield f"| {title} | {then} | {_films(seen.choices[title])} |"
    yield from ("", "## What is recorded first", "")
    yield "The first rule that has something to write is the only one that speaks in a pass."
    yield from ("", "| | rule | films |", "| --- | --- | --- |")
    for number, rule in enumerate(records.RULES, 1):
        what = f"`{rule.__name__}`: {prose(rule)}"
        yield f"| {number} | {what} | {_films(seen.rules[rule.__name__])} |"
    for title, functions in ACTS:
        yield from ("", f"## {title}", "")
        for function in functions:
            yield f"- `{function.__name__}`: {prose(function)}"
    yield from ("", "## What the status says meanwhile", "")
    yield "Reasons that films show; [reasons.md](reasons.md) has all, with what to do."
    yield from ("", "| reason | meaning | films |", "| --- | --- | --- |")
    for reason, why in UNSEEN.items():
        yield f"| `{reason}` | {EXPLANATIONS[reason].meaning} | none: {why} |"
    for reason in Reason:
        if films := seen.reasons.get(reason):
            yield f"| `{reason}` | {EXPLANATIONS[reason].meaning} | {_films(films)} |"


def prose(function: Callable[..., object]) -> str:
    """Return what a function says of itself, on one line."""
    return " ".join((inspect.getdoc(function) or "").split())


def _films(names: list[str]) -> str:
    links = [f"[{n}](../tests/golden/rollouts/{n}.txt)" for n in names[:SHOWN]]
    rest = len(names) - SHOWN
    return ", ".join(links) + (f", and {rest} more" if rest > 0 else "")


def main() -> None:
    """Write the page, or say that it is out of step."""
    parser = argparse.ArgumentParser(description="Write docs/rollout.md.")
    parser.add_argument("--check", action="store_true", help="compare only")
    seen = watch_films(stories.STORIES)
    if lacking := missing(seen):
        sys.exit(f"no film shows: {', '.join(lacking)}")
    page = "\n".join(build_page(seen)) + "\n"
    if not parser.parse_args().check:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        sys.exit("docs/rollout.md is out of step: run python tests/support/decision_table.py")


if __name__ == "__main__":
    main()
