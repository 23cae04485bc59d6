"""What must be true in every story: I1 to I8 of docs/design.md, and that a status tells no lie.

Called by `telling` after every step (`check_state`), for every write of the operator
(`check_write`) and whenever nothing moves (`check_rest`). Each invariant is a function that
returns what is wrong, or an empty text; `test_invariants` shows each to find a planted violation.
"""

import datetime
import json
from collections.abc import Callable

import status_truths
import tiny_cluster
import world_facts as facts
from tiny_world import CHATMODEL, World

from chatmodel_operator import names
from chatmodel_operator.observed import format_time, parse_time

AGE = datetime.timedelta(seconds=tiny_cluster.SETTINGS.timings.max_connection_age_seconds)
Write = tiny_cluster.Write


def check_state(world: World) -> None:
    """Assert what must be true at every moment."""
    for rule in STATE:
        if wrong := rule(world):
            raise AssertionError(f"{rule.__name__}: {wrong}")


def check_write(before: World, write: Write, after: World) -> None:
    """Assert what must be true of every write of the operator."""
    for rule in WRITES:
        if wrong := rule(before, write, after):
            raise AssertionError(f"{rule.__name__}: {wrong}")


def check_rest(world: World) -> None:
    """Assert what must be true while nothing moves."""
    for rule in REST:
        if wrong := rule(world):
            raise AssertionError(f"{rule.__name__}: {wrong}")


# --- at every moment -------------------------------------------------------------------------


def traffic_is_on_what_answered(world: World) -> str:
    """I2: what has the traffic has answered, or is known to have been bad or is tried again."""
    name = world.selected()
    status = world.status_of(name)
    if name is None or not status.get("verdict") or facts.wanted_replicas(world) == 0:
        return ""  # a blank revision is about to be rebuilt from its Deployment
    if status["verdict"] == "Verified" and not status.get("answeredAt"):
        return f"{name} is Verified, has the traffic and never answered"
    return ""


# --- of every write --------------------------------------------------------------------------


def last_good_advances_after_answer_and_bake(before: World, write: Write, after: World) -> str:
    """I1: Verified is only what answered, has Ready pods and stood its bake under traffic."""
    change, name = facts.change(before, write), write.key[1]
    if change is None or change[1] != "Verified":
        return ""
    is_blank = not before.status_of(name).get("startedAt")
    if is_blank and facts.stamps(before, name).get(names.LABEL_VERDICT) == "Verified":
        return ""  # it had been, and its object was lost
    if not after.status_of(name).get("answeredAt") or not before.ready_pods(name):
        return f"{name} is Verified without answer or Ready pod"
    if facts.last_good(before, name) is None:
        return ""  # nothing to go back to: no bake
    since = parse_time(before.status_of(name).get("servingAt"))
    bake = datetime.timedelta(seconds=facts.rollout(before).get("bakeSeconds", 60)) + AGE
    if since is None or before.selected() != name:
        return f"{name} is Verified without traffic"
    return "" if before.now() >= since + bake else f"{name} is Verified before its bake is over"


def traffic_moves_to_what_answered(before: World, write: Write, after: World) -> str:
    """I2: traffic moves only to a revision that answered in this attempt and has Ready pods."""
    name = after.selected()
    if write.key[0] != "Service" or name is None or name == before.selected():
        return ""
    status = before.status_of(name)
    if not status.get("answeredAt") or status.get("retiredAt"):
        return f"traffic moves to {name}, which never answered"
    if status.get("verdict") == "Failed" or not before.ready_pods(name):
        return f"traffic moves to {name}, which is bad or not Ready"
    return ""


def traffic_goes_back_to_the_last_good(before: World, write: Write, after: World) -> str:
    """I3, I5: from a bad target traffic goes to the last good revision, and stays there."""
    target, name = facts.target(before), after.selected()
    if write.key[0] != "Service" or name is None or name == before.selected():
        return ""
    if before.status_of(target).get("verdict") != "Failed":
        return ""
    good = facts.last_good(before, target)
    return "" if name == good else f"{target} is bad, traffic moves to {name} instead of {good}"


def a_failed_revision_stays_failed(before: World, write: Write, after: World) -> str:
    """I4: only another retry value or another token opens a Failed revision again."""
    change = facts.change(before, write)
    if change is None or change[0] != "Failed":
        return ""
    status, meta = before.status_of(write.key[1]), before.objects[CHATMODEL]["metadata"]
    value = (meta.get("annotations") or {}).get(names.ANNOTATION_RETRY)
    token = (facts.spec(before).get("model") or {}).get("tokenSecretRef")
    known = status.get("tokenSecretRef")
    if (value is not None and value != status.get("retry")) or token != known:
        return ""
    return f"{write.key[1]} is tried again and nobody asked"


def a_failed_revision_gets_no_pods(before: World, write: Write, after: World) -> str:
    """I4: a bad revision holds no room: its Deployment is never raised."""
    kind, name = write.key
    if kind != "Deployment" or before.status_of(name).get("verdict") != "Failed":
        return ""
    held = facts.rollout(before).get("failurePolicy") == "Hold" and before.selected() == name
    grows = after.replicas_of(name) > before.replicas_of(name)
    return f"{name} is bad and gets pods" if grows and not held else ""


def only_the_target_fails(before: World, write: Write, after: World) -> str:
    """I5: nothing else is ever found bad, so that no rollback follows a rollback.

    What bakes under traffic may be, whatever has been asked for meanwhile and cannot be had.
    """
    change = facts.change(before, write)
    if change is None or change[1] != "Failed" or write.key[1] == facts.target(before):
        return ""
    if before.selected() == write.key[1] and change[0] != "Verified":
        return ""
    if (
        not before.status_of(write.key[1]).get("startedAt")
        and facts.stamps(before, write.key[1]).get(names.LABEL_VERDICT) == "Failed"
    ):
        return ""  # it had been, and its object was lost
    return f"{write.key[1]} is not the target and is found bad"


def the_author_s_part_is_never_written(before: World, write: Write, after: World) -> str:
    """I6: the operator writes the ChatModel's status and nothing else of it."""
    if write.key != CHATMODEL:
        return ""
    old, new = before.objects[CHATMODEL], write.body or {}
    metas = [{**b.get("metadata", {}), "resourceVersion": ""} for b in (old, new)]
    same = old["spec"] == new.get("spec") and metas[0] == metas[1]
    return "" if same else "the operator wrote the author's part"


def times_are_the_server_s(before: World, write: Write, after: World) -> str:
    """I8: every time written is the API server's now, or was there before."""
    if write.key[0] != "ChatModelRevision" or write.body is None:
        return ""
    known = [format_time(before.now()), *before.status_of(write.key[1]).values()]
    known.append(write.body["metadata"]["creationTimestamp"])
    stamped = facts.stamps(before, write.key[1]).get(names.LABEL_VERDICT_AT)
    known += [format_time(moment)] if (moment := parse_time(stamped)) else []
    for field, value in write.body["status"].items():
        if field.endswith("At") and value not in known:
            return f"{field} is {value}, which is not now"
    return ""


def pods_stop_for_a_swap_while_intended(before: World, write: Write, after: World) -> str:
    """What serves is scaled below spec only while swapStartedAt stands, or when it is bad."""
    kind, name = write.key
    if kind != "Deployment" or name != before.selected() or write.body is None:
        return ""
    fewer = after.replicas_of(name) < min(before.replicas_of(name), facts.wanted_replicas(before))
    if not fewer or before.status_of(name).get("verdict") == "Failed":
        return ""
    statuses = [b["status"] for b in before.revisions().values()]
    if any(s.get("swapStartedAt") and not s.get("swapUndoneAt") for s in statuses):
        return ""
    return f"{name} serves and loses pods without a swap"


def the_last_good_is_warm_in_the_bake(before: World, write: Write, after: World) -> str:
    """Old pods stay until the bake is over, unless they made room by an intended swap."""
    kind, name = write.key
    selected = before.selected()
    status = before.status_of(selected)
    if kind != "Deployment" or status.get("verdict") != "Pending" or status.get("swapStartedAt"):
        return ""
    # What was switched to without an answer in this attempt is not baking yet.
    if name != facts.last_good(before, selected) or facts.target(before) != selected:
        return ""
    fewer = after.replicas_of(name) < min(before.replicas_of(name), facts.wanted_replicas(before))
    return f"{selected} bakes and {name} loses its pods" if fewer else ""


def a_pause_takes_no_step(before: World, write: Write, after: World) -> str:
    """While paused, a target without traffic gets no pods, and no traffic."""
    target = facts.target(before)
    if not facts.rollout(before).get("paused") or target in (None, before.selected()):
        return ""
    status = before.status_of(target)
    if status.get("swapStartedAt") and not status.get("swapUndoneAt"):
        return ""
    grows = after.replicas_of(target) > before.replicas_of(target)
    return f"paused, and {target} goes on" if grows or after.selected() == target else ""


def what_is_needed_is_not_deleted(before: World, write: Write, after: World) -> str:
    """Serving, target and last good revisions stay, and so does the claim they are on."""
    if write.body is not None:
        return ""
    kind, name = write.key
    target = facts.target(before)
    needed = {before.selected(), target, facts.last_good(before, target)} - {None}
    if kind in ("ChatModelRevision", "Deployment") and name in needed:
        return f"{kind} {name} is needed and deleted"
    if kind != "PersistentVolumeClaim":
        return ""
    needed = {n for n in needed if before.status_of(n).get("verdict") != "Failed"}
    bodies = [before.objects.get(("ChatModelRevision", str(n)), {"spec": {}}) for n in needed]
    on_it = [b for b in bodies if b["spec"].get("source", {}).get("cacheStrategy") == "Persistent"]
    return f"claim {name} is needed and deleted" if on_it else ""


def a_deleting_chatmodel_is_left_alone(before: World, write: Write, after: World) -> str:
    """With a deletionTimestamp: no write of any kind."""
    gone = "deletionTimestamp" in before.objects[CHATMODEL]["metadata"]
    return f"{write.line or write.key} on a deleting ChatModel" if gone else ""


# --- while nothing moves ---------------------------------------------------------------------


def every_verdict_is_stamped(world: World) -> str:
    """I4, I7: a Deployment says what became of its revision, and the revision can be lost."""
    if "deletionTimestamp" in world.objects[CHATMODEL]["metadata"]:
        return ""
    for name, body in world.revisions().items():
        verdict = body["status"].get("verdict")
        if verdict not in ("Verified", "Failed") or ("Deployment", name) not in world.objects:
            continue
        if facts.stamps(world, name).get(names.LABEL_VERDICT) != verdict:
            return f"Deployment {name} does not say that it is {verdict}"
    return ""


def one_deployment_has_pods_after_a_rollout(world: World) -> str:
    """While Ready, long after the switch, no revision but the serving one has pods."""
    ready = status_truths.condition(world.objects[CHATMODEL]["status"], "Ready")
    since = parse_time(world.status_of(world.selected()).get("servingAt"))
    if ready is None or ready["status"] != "True" or since is None:
        return ""
    if facts.rollout(world).get("paused"):
        return ""
    if world.now() < since + datetime.timedelta(seconds=120):
        return ""
    others = [n for n in world.revisions() if n != world.selected() and world.replicas_of(n)]
    return f"Ready, and {json.dumps(others)} still have pods" if others else ""


def a_template_is_applied_as_stored(before: World, write: Write, after: World) -> str:
    """Promise 7: what runs is the stored template, whatever this operator would render today."""
    if write.key[0] != "Deployment" or write.body is None:
        return ""
    stored = (before.revisions().get(write.key[1]) or {"spec": {}})["spec"].get("template")
    same = stored is None or write.body["spec"]["template"] == stored
    return "" if same else f"the template of {write.key[1]} is not the stored one"


STATE: tuple[Callable[[World], str], ...] = (traffic_is_on_what_answered,)
WRITES: tuple[Callable[[World, Write, World], str], ...] = (
    last_good_advances_after_answer_and_bake,
    traffic_moves_to_what_answered,
    traffic_goes_back_to_the_last_good,
    a_failed_revision_stays_failed,
    a_failed_revision_gets_no_pods,
    only_the_target_fails,
    the_author_s_part_is_never_written,
    times_are_the_server_s,
    pods_stop_for_a_swap_while_intended,
    the_last_good_is_warm_in_the_bake,
    a_pause_takes_no_step,
    what_is_needed_is_not_deleted,
    a_deleting_chatmodel_is_left_alone,
    a_template_is_applied_as_stored,
    *status_truths.WRITES,
)
REST: tuple[Callable[[World], str], ...] = (
    every_verdict_is_stamped,
    one_deployment_has_pods_after_a_rollout,
)
