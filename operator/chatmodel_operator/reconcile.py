"""The story of one pass: observe → plan → record → build → apply → status.

Called by `handlers` for every ChatModel that somebody should look at. A pass records, or acts, or
says what it sees: after a write it begins anew, from what the cluster says then.
"""

import dataclasses
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from chatmodel_operator import (
    cluster,
    comparing,
    drift,
    errors,
    names,
    questions,
    records,
    rollout,
    status,
)
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.desired import claim, deployment, job, policy, revision, service
from chatmodel_operator.desired.metadata import Manifest
from chatmodel_operator.observed import ChatModel, Observed
from chatmodel_operator.settings import Settings

logger = logging.getLogger(__name__)
NAME_TAKEN_SECONDS = 5.0
SAID_ALREADY = (Reason.NameConflict, Reason.WaitingForCleanup, Reason.SchemaMismatch)
BRIEF_SECONDS = 1.0


class Reconciler:
    """Makes the cluster agree with one ChatModel at a time."""

    def __init__(
        self,
        api: cluster.Cluster,
        asked: questions.Questions,
        settings: Settings,
        on_outcome: Callable[[records.Outcome], None] = lambda _: None,
    ) -> None:
        self._api = api
        self._on_outcome = on_outcome
        self._questions = asked
        self._settings = settings
        self._drift = drift.Drift()

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Look at one ChatModel; return the seconds after which to look again without an event.

        Raises `errors.ClusterError`; what the server refused is in the status by then.
        """
        observed = await self._api.observe(namespace, name)
        if observed is None or observed.chatmodel.is_deleting:
            return None  # the garbage collector takes the children
        answer = self._questions.find_answer(observed)
        plan = rollout.plan_answered(observed, answer, self._settings, self._api.now())
        if plan.is_idle:
            await self._report(observed, plan)
            return None
        try:
            if (pause := await self._record(observed, plan)) is not None:
                return pause  # acts follow from what has been recorded, read back
            manifests = self._manifests(observed, plan)
            if await self._act(observed, plan, manifests):
                return 0.0  # what was done is looked at before it is told
        except errors.Rejected as error:
            await self._report(observed, _refused(plan, error))
            raise
        plan = self._with_contested(observed, plan, manifests)
        asked = [self._questions.ask(observed.chatmodel, each) for each in plan.questions]
        if status.is_brief(observed.chatmodel, plan) and (rest := BRIEF_SECONDS - sum(asked)) > 0:
            return min(rest, plan.requeue_after or rest)
        await self._report(observed, plan)
        return plan.requeue_after

    async def _record(self, observed: Observed, plan: rollout.Plan) -> float | None:
        """Write what must be known before anything is done.

        Returns the seconds until the next look, or None when there was nothing to write.
        """
        chatmodel = observed.chatmodel
        if plan.create is not None:
            new = plan.create
            manifest = revision.build_revision(
                chatmodel,
                name=new.name,
                number=new.number,
                source=new.source,
                instance_class=observed.instance_class,
                settings=self._settings,
                commit=new.commit,
                files=new.files,
                template=new.template,
            )
            if not await self._api.create(manifest):
                # Ours without its label, ours on its way out, or somebody else's: then it is said.
                await self._api.apply(revision.build_bearings(chatmodel, new.name), None)
                return NAME_TAKEN_SECONDS
        elif plan.record is not None:
            record = plan.record
            await self._api.record(chatmodel.namespace, record.revision, "status", record.status)
            if (outcome := records.find_outcome(record, plan.cast)) is not None:
                self._on_outcome(outcome)
        elif plan.prepare is not None:
            which, found = plan.prepare.revision, plan.prepare.inspection
            body = revision.build_preparation(
                chatmodel, which, found, observed.instance_class, self._settings
            )
            await self._api.record(chatmodel.namespace, which, "spec", body)
        else:
            return None
        return 0.0

    async def _act(
        self, observed: Observed, plan: rollout.Plan, manifests: list[tuple[Manifest, bool]]
    ) -> bool:
        """Make the children what the plan says; traffic moves before pods go.

        Returns whether anything was made or changed; deletions tell by themselves when done.
        """
        chatmodel, wrote = observed.chatmodel, False
        if plan.wants_api_key:
            key = secrets.token_urlsafe(32)
            wrote |= await self._api.create(service.build_api_key_secret(chatmodel, key))
        for manifest, is_guarded in manifests:
            wrote |= await self._apply(observed, manifest, guarded=is_guarded)
        for body in self._jobs(chatmodel, plan):
            if body["metadata"]["name"] not in observed.jobs:
                wrote |= await self._api.create(body)
        await self._prune(observed, plan)
        return wrote

    def _manifests(self, observed: Observed, plan: rollout.Plan) -> list[tuple[Manifest, bool]]:
        """Return what must be there, in its order, and whether an old picture could do harm."""
        chatmodel = observed.chatmodel
        serving = plan.serving.name if plan.serving is not None else None
        wanted = [(revision.build_bearings(chatmodel, r.name), False) for r in observed.revisions]
        wanted += [
            (service.build_service_account(chatmodel), False),
            (service.build_service(chatmodel, serving), True),
        ]
        wanted += [(manifest, False) for manifest in self._guards(chatmodel, plan)]
        for name, replicas in plan.replicas.items():
            which, current = observed.find(name), observed.deployments.get(name)
            assert which is not None
            fewer = current is not None and replicas < current.replicas
            wanted.append((deployment.build_deployment(chatmodel, which, replicas), fewer))
        if plan.claim_bytes is not None:  # after what serves: a volume may refuse to grow
            wanted.append((claim.build_claim(chatmodel, plan.claim_bytes), False))
        return wanted

    async def _apply(self, observed: Observed, manifest: Manifest, *, guarded: bool) -> bool:
        """Apply one manifest, unless somebody else changes it as often as we do."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        live, now = observed.live.get((kind, name)), self._api.now().timestamp()
        ref = (kind, observed.chatmodel.namespace, name)
        if live is not None and self._drift.wait(ref, now) > 0:
            return False
        wrote = await self._api.apply(manifest, live, guarded=guarded)
        if wrote and live is not None:
            self._drift.note(ref, manifest, now)
        return wrote

    def _with_contested(
        self, observed: Observed, plan: rollout.Plan, manifests: list[tuple[Manifest, bool]]
    ) -> rollout.Plan:
        """Return a plan that says who is not mended any more, if there is one."""
        namespace, now = observed.chatmodel.namespace, self._api.now().timestamp()
        for manifest, _ in manifests:
            kind, name = manifest["kind"], manifest["metadata"]["name"]
            wait = self._drift.wait((kind, namespace, name), now)
            live: Mapping[str, Any] = observed.live.get((kind, name), {})
            if wait > 0 and (field := comparing.find_difference(manifest, live)):
                text = (
                    f"{kind} {name}: {field} was put back {drift.MOST_REPAIRS} times within"
                    f" {drift.WINDOW_SECONDS / 60:.0f} minutes and has been changed again"
                )
                again = min(wait, plan.requeue_after if plan.requeue_after is not None else wait)
                return dataclasses.replace(
                    plan, reason=Reason.DriftContested, message=text, requeue_after=again
                )
        return plan

    def _jobs(self, chatmodel: ChatModel, plan: rollout.Plan) -> list[Manifest]:
        jobs = []
        if plan.inspect is not None:
            jobs.append(job.build_inspect_job(chatmodel, plan.inspect, self._settings))
        if plan.stage is not None:
            keep = plan.keep_folders
            jobs.append(job.build_stage_job(chatmodel, plan.stage, keep, self._settings))
        return jobs

    def _guards(self, chatmodel: ChatModel, plan: rollout.Plan) -> list[Manifest]:
        """Return the disruption budget and the network policy, as far as the plan has them."""
        guards = []
        if plan.is_budgeted and plan.serving is not None:
            guards.append(policy.build_disruption_budget(chatmodel, plan.serving.name))
        if self._settings.network.enabled:
            network = self._settings.network
            guards.append(policy.build_network_policy(chatmodel, network, calls_hub=plan.calls_hub))
        return guards

    async def _prune(self, observed: Observed, plan: rollout.Plan) -> None:
        """Remove what has no use any more: Jobs, the claim, revisions beyond the history limit."""
        namespace = observed.chatmodel.namespace
        doomed = [("Job", name) for name in plan.drop_jobs]
        if not plan.is_budgeted:
            doomed.append(("PodDisruptionBudget", observed.chatmodel.name))
        if plan.drops_claim:
            doomed.append(("PersistentVolumeClaim", names.models_claim(observed.chatmodel.name)))
        for name in plan.drop_revisions:
            doomed += [("Deployment", name), ("ChatModelRevision", name)]
        for kind, name in doomed:
            item = observed.live.get((kind, name))
            if item is not None:
                uid = item["metadata"]["uid"]
                await self._api.delete(kind, namespace, name, uid)
        for pod in plan.hasten:
            grace = self._settings.timings.abandoned_seconds
            await self._api.delete("Pod", namespace, pod.name, pod.uid, grace=grace)

    async def _report(self, observed: Observed, plan: rollout.Plan) -> None:
        """Write the status when it differs, and the event that a new reason is worth."""
        now = self._api.now()
        body = status.build_status(observed, plan, now)
        if await self._api.patch_status(observed.chatmodel, body):
            event = status.build_event(observed.chatmodel, body, now)
            if event is not None:
                await self._post(event)

    async def _post(self, event: Manifest) -> None:
        """Post an event; the status says the same, so that a refused one is no failure."""
        try:
            await self._api.post_event(event)
        except errors.ClusterError as error:
            logger.warning("event not posted: %s", error)


def _refused(plan: rollout.Plan, error: errors.Rejected) -> rollout.Plan:
    """Return a plan that says what the server refused; nothing of it is the model's fault."""
    reason = Reason.AdmissionDenied
    if error.reason in SAID_ALREADY:
        reason = Reason(error.reason)
    elif "PersistentVolumeClaim" in error.what or "persistentvolumeclaims" in error.what:
        reason = Reason.InsufficientStorage  # a StorageClass that cannot grow its volumes
    elif "exceeded quota" in error.message:
        reason = Reason.QuotaExceeded
    elif error.reason == "Forbidden" and " cannot " in error.message:
        reason = Reason.PermissionDenied  # the words of RBAC; admission says Forbidden as well
    text = f"{error.what}: {error.message}"
    return rollout.Plan(reason, text, plan.cast, serving=plan.serving, is_stalled=True)
