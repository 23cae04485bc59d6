"""Plants bugs in a copy of the operator, one by one, and sees that the pure tests find each.

Run by `make seeded-bugs`, and for a few of them by `test_seeded_bugs`. Each bug replaces a text
that occurs exactly once, so that the list cannot rot. It runs films with their invariants, then
schedules, against the copy; what they say first is printed. Exit code 1 if a bug is not found.
"""

import argparse
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
SCHEDULES = 300


@dataclasses.dataclass(frozen=True)
class Bug:
    """One planted bug: in which file, what is replaced by what."""

    name: str
    klass: str  # of the taxonomy, or the invariant it breaks
    file: str
    old: str
    new: str


BUGS = (
    Bug(
        "verified without a bake",
        "I1",
        "verdicts.py",
        "or end is None or scene.now < end:",
        "or end is None:",
    ),
    Bug(
        "verified although not Ready",
        "I1, status lie",
        "verdicts.py",
        "if not scene.observed.ready_pods(target):",
        "if False:",
    ),
    Bug(
        "traffic by Ready alone",
        "I2",
        "standing.py",
        "return revision.is_answered and len(",
        "return len(",
    ),
    Bug(
        "goes back to the oldest",
        "I3",
        "standing.py",
        "return max(verified, key",
        "return min(verified, key",
    ),
    Bug(
        "tries a bad one again",
        "I4",
        "verdicts.py",
        "if not target.is_failed or not (is_asked or is_other_token):",
        "if not target.is_failed:",
    ),
    Bug(
        "environment is blamed",
        "I4",
        "verdicts.py",
        "if sign is not None and sign.is_bad else None\n\n\ndef fail_what",
        "if sign is not None else None\n\n\ndef fail_what",
    ),
    Bug(
        "a bad one keeps its pods",
        "I4",
        "verdicts.py",
        'ended |= {"retiredAt": scene.stamp, "answeredAt": None}',
        "pass",
    ),
    Bug(
        "stays on what is bad",
        "I5, recovery failure",
        "standing.py",
        "wanted=last_good if target.is_failed and not is_held else target",
        "wanted=target",
    ),
    Bug(
        "a rollback is not told",
        "I6",
        "conditions.py",
        "if cast.is_rolled_back or cast.is_held",
        "if cast.is_held",
    ),
    Bug(
        "the receipt is not stamped",
        "I7",
        "desired/deployment.py",
        "names.LABEL_VERDICT: status.verdict,",
        "names.LABEL_VERDICT: None,",
    ),
    Bug(
        "times of another clock",
        "I8",
        "scene.py",
        "return format_time(self.now)",
        "return format_time(self.now + datetime.timedelta(hours=1))",
    ),
    Bug(
        "pods go before the intent",
        "intermediate state",
        "receipts.py",
        '{"swapStartedAt": scene.stamp, "progressAt"',
        '{"progressAt"',
    ),
    Bug(
        "acts on what is not recorded",
        "intermediate state",
        "receipts.py",
        "        return None if since is not None else Record(chosen",
        "        return None if True else Record(chosen",
    ),
    Bug(
        "an old end counts again",
        "stale state",
        "failures.py",
        "if container.ended_at is None or container.ended_at <= since:",
        "if container.ended_at is None:",
    ),
    Bug(
        "a lost revision stays lost",
        "unobserved state",
        "rollout.py",
        "        if deployment.source is not None and deployment.number is not None:",
        "        if False:",
    ),
    Bug(
        "replicas are ignored",
        "misoperation",
        "standing.py",
        "replicas=spec.replicas,",
        "replicas=1,",
    ),
    Bug(
        "a pause is ignored",
        "misoperation",
        "standing.py",
        "is_paused=spec.rollout.paused and not",
        "is_paused=False and not",
    ),
    Bug(
        "a new model is not tried after a bad one",
        "recovery failure",
        "rollout.py",
        "if target is None:\n        return Plan",
        "if target is None and not any(r.is_failed for r in observed.revisions):\n"
        "        return Plan",
    ),
    Bug(
        "level is an edge",
        "level trigger",
        "receipts.py",
        "if wanted is None or wanted.is_open or scene.cast.replicas == 0:",
        "if wanted is None or wanted.is_open or wanted.status.retired_at is not None:",
    ),
    Bug(
        "Ready while it bakes",
        "status lie",
        "conditions.py",
        "serves = plan.reason in (Reason.Serving, Reason.Pinned)",
        "serves = plan.reason in (Reason.Serving, Reason.Baking)",
    ),
    Bug(
        "Available without pods",
        "status lie",
        "conditions.py",
        '    if ready:\n        return "True", Reason.Serving, text',
        '    if True:\n        return "True", Reason.Serving, text',
    ),
    Bug(
        "the transition time always moves",
        "status lie",
        "conditions.py",
        "if stays and before is not None",
        "if False and before is not None",
    ),
    Bug(
        "the renderer's version rolls",
        "operator upgrade",
        "desired/deployment.py",
        '"template": revision.spec.template,',
        '"template": {**(revision.spec.template or {}), "rendered": "2"},',
    ),
    Bug(
        "the only room is for whoever asks first",
        "race",
        "capacity.py",
        "(current == 0 and _is_serving_on_its_way(scene))",
        "False",
    ),
    Bug(
        "children of a dying parent",
        "terminating re-create",
        "reconcile.py",
        "if observed is None or observed.chatmodel.is_deleting:",
        "if observed is None:",
    ),
    Bug(
        "history takes the last good",
        "I3",
        "leftovers.py",
        "needed = {cast.target, cast.wanted, cast.serving, cast.last_good}",
        "needed = {cast.target}",
    ),
)

RUN = """
import sys
sys.path[:0] = [{operator!r}, {support!r}]
import pathlib, stories, telling
films = pathlib.Path({films!r})
for name in stories.STORIES:
    try:
        log = "\\n".join(telling.film(name).log) + "\\n"
    except AssertionError as error:
        sys.exit("film " + name + ": " + str(error))
    except Exception as error:
        sys.exit("film " + name + ": " + repr(error))
    if {with_films} and log != (films / (name + ".txt")).read_text():
        sys.exit("film " + name + " differs")
failed = telling.run_part(0, {schedules})[1]
if failed:
    sys.exit("schedule " + failed)
"""


def find(bug: Bug | None) -> str:
    """Return what the tests say of the operator with a bug; empty when they find nothing."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "operator"
        shutil.copytree(ROOT / "operator", copy)
        if bug is not None:
            plant(bug, copy / "chatmodel_operator" / bug.file)
        script = RUN.format(
            operator=str(copy),
            support=str(ROOT / "tests" / "support"),
            films=str(ROOT / "tests" / "golden" / "rollouts"),
            with_films=True,
            schedules=SCHEDULES,
        )
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
        )
    lines = done.stderr.strip().splitlines()
    return lines[-1] if done.returncode else ""


def plant(bug: Bug, path: pathlib.Path) -> None:
    """Replace the bug's text, which must be there exactly once."""
    text = path.read_text()
    if text.count(bug.old) != 1:
        sys.exit(f"{bug.name}: its text is {text.count(bug.old)} times in {bug.file}")
    path.write_text(text.replace(bug.old, bug.new))


def main() -> None:
    """Plant the bugs and print the table."""
    parser = argparse.ArgumentParser(description="Plant bugs and see that they are found.")
    parser.add_argument("names", nargs="*", help="bugs to plant (default: all)")
    args = parser.parse_args()
    chosen = [bug for bug in BUGS if not args.names or bug.name in args.names]
    missed = 0
    print("| bug | class | found by | seconds |\n| --- | --- | --- | --- |", flush=True)
    for bug in chosen:
        started = time.monotonic()
        found = find(bug)
        missed += not found
        text = (found or "NOT FOUND").replace("|", "/")[:110]
        print(
            f"| {bug.name} | {bug.klass} | {text} | {time.monotonic() - started:.0f} |", flush=True
        )
    print(f"\n{len(chosen) - missed} of {len(chosen)} found")
    sys.exit(1 if missed or not chosen else 0)


if __name__ == "__main__":
    main()
