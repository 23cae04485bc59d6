"""The story of one pass: observe → plan → record → build → apply → status.

Called by `handlers` for every ChatModel that somebody should look at. Keeps no memory between
passes; whatever happens, the next pass starts from what the cluster says.
"""

import dataclasses
import logging
import secrets

from chatmodel_operator import cluster, errors, names, questions, rollout, status
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.desired import claim, deployment, job, policy, revision, service
from chatmodel_operator.desired.metadata import Manifest
from chatmodel_operator.observed import ChatModel, Observed
from chatmodel_operator.settings import Settings

logger = logging.getLogger(__name__)
NAME_TAKEN_SECONDS, CONTESTED_SECONDS = 5.0, 60.0


class Reconciler:
    """Makes the cluster agree with one ChatModel at a time."""

    def __init__(
        self, api: cluster.Cluster, asked: questions.Questions, settings: Settings
    ) -> None:
        self._api = api
        self._questions = asked
        self._settings = settings

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Look at one ChatModel; return the seconds after which to look again without an event.

        Raises `errors.ClusterError`; what the server refused is in the status by then.
        """
        observed = await self._api.observe(namespace, name)
        if observed is None or observed.chatmodel.is_deleting:
            self._api.repairs.forget(namespace, name)
            return None  # the garbage collector takes the children
        plan = rollout.plan_rollout(observed, self._settings, self._api.now())
        if plan.is_idle:
            await self._report(observed, plan)
            return None
        try:
            if (pause := await self._record(observed, plan)) is not None:
                return pause  # acts follow from what has been recorded, read back
            await self._act(observed, plan)
        except errors.Rejected as error:
            await self._report(observed, _refused(plan, error))
            raise
        if contested := self._api.repairs.contested(namespace, name):
            plan = _contested(plan, contested)
        await self._report(observed, plan)
        for question in plan.questions:
            self._questions.ask(observed.chatmodel, question)
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
                commit=new.commit,
                template=new.template,
            )
            if not await self._api.create(manifest):
                # Ours without its label, ours on its way out, or somebody else's: then it is said.
                await self._api.apply(revision.build_bearings(chatmodel, new.name), None)
                return NAME_TAKEN_SECONDS
        elif plan.record is not None:
            record = plan.record
            await self._api.record(chatmodel.namespace, record.revision, "status", record.status)
        elif plan.prepare is not None:
            which, found = plan.prepare.revision, plan.prepare.inspection
            body = revision.build_preparation(
                chatmodel, which, found, observed.instance_class, self._settings
            )
            await self._api.record(chatmodel.namespace, which, "spec", body)
        else:
            return None
        return 0.0

    async def _act(self, observed: Observed, plan: rollout.Plan) -> None:
        """Make the children what the plan says; traffic moves before pods go."""
        chatmodel, live = observed.chatmodel, observed.live
        for each in observed.revisions:
            bearings = revision.build_bearings(chatmodel, each.name)
            await self._api.apply(bearings, live.get(("ChatModelRevision", each.name)))
        account = service.build_service_account(chatmodel)
        await self._api.apply(account, live.get(("ServiceAccount", chatmodel.name)))
        if plan.wants_api_key:
            key = secrets.token_urlsafe(32)
            await self._api.create(service.build_api_key_secret(chatmodel, key))
        serving = plan.serving.name if plan.serving is not None else None
        switch = service.build_service(chatmodel, serving)
        await self._api.apply(switch, live.get(("Service", chatmodel.name)), guarded=True)
        await self._guard(observed, plan)
        if plan.claim_bytes is not None:
            volume = claim.build_claim(chatmodel, plan.claim_bytes)
            there = live.get(("PersistentVolumeClaim", volume["metadata"]["name"]))
            await self._api.apply(volume, there)
        for name, replicas in plan.replicas.items():
            which, current = observed.find(name), observed.deployments.get(name)
            assert which is not None
            manifest = deployment.build_deployment(chatmodel, which, replicas)
            fewer = current is not None and replicas < current.replicas
            await self._api.apply(manifest, live.get(("Deployment", name)), guarded=fewer)
        for body in self._jobs(chatmodel, plan):
            if body["metadata"]["name"] not in observed.jobs:
                await self._api.create(body)
        await self._prune(observed, plan)

    def _jobs(self, chatmodel: ChatModel, plan: rollout.Plan) -> list[Manifest]:
        jobs = []
        if plan.inspect is not None:
            jobs.append(job.build_inspect_job(chatmodel, plan.inspect, self._settings))
        if plan.stage is not None:
            keep = plan.keep_folders
            jobs.append(job.build_stage_job(chatmodel, plan.stage, keep, self._settings))
        return jobs

    async def _guard(self, observed: Observed, plan: rollout.Plan) -> None:
        """Keep the disruption budget and the network policy as the plan has them."""
        chatmodel, live = observed.chatmodel, observed.live
        if plan.is_budgeted and plan.serving is not None:
            budget = policy.build_disruption_budget(chatmodel, plan.serving.name)
            await self._api.apply(budget, live.get(("PodDisruptionBudget", chatmodel.name)))
        if self._settings.network.enabled:
            network = policy.build_network_policy(
                chatmodel, self._settings.network, calls_hub=plan.calls_hub
            )
            await self._api.apply(network, live.get(("NetworkPolicy", chatmodel.name)))

    async def _prune(self, observed: Observed, plan: rollout.Plan) -> None:
        """Remove what has no use any more: Jobs, the claim, revisions beyond the history limit."""
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
                await self._api.delete(kind, observed.chatmodel.namespace, name, uid)

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


def _contested(plan: rollout.Plan, text: str) -> rollout.Plan:
    """Return the plan, saying that somebody else keeps undoing a part of it."""
    pause = min(plan.requeue_after or CONTESTED_SECONDS, CONTESTED_SECONDS)
    return dataclasses.replace(
        plan,
        reason=Reason.DriftContested,
        message=text,
        is_stalled=True,
        requeue_after=pause,
    )


def _refused(plan: rollout.Plan, error: errors.Rejected) -> rollout.Plan:
    """Return a plan that says what the server refused; nothing of it is the model's fault."""
    reason = Reason.AdmissionDenied
    if error.reason in (Reason.NameConflict, Reason.WaitingForCleanup):
        reason = Reason(error.reason)
    elif "PersistentVolumeClaim" in error.what or "persistentvolumeclaims" in error.what:
        reason = Reason.InsufficientStorage  # a StorageClass that cannot grow its volumes
    elif "exceeded quota" in error.message:
        reason = Reason.QuotaExceeded
    elif error.reason == "Forbidden" and " cannot " in error.message:
        reason = Reason.PermissionDenied  # the words of RBAC; admission says Forbidden as well
    text = f"{error.what}: {error.message}"
    return rollout.Plan(reason, text, plan.cast, serving=plan.serving, is_stalled=True)
