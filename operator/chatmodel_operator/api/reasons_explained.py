"""What every reason means, what to do about it, and whose fault it is.

`failures` and `status` decide by the classes; `reasons_page` writes `docs/reasons.md` of it. Pure.
"""

import dataclasses

from chatmodel_operator.api.reasons import Class, Reason


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a reason means and what to do about it, one sentence each."""

    klass: Class
    meaning: str
    cure: str


_WAIT = "Nothing; it goes on by itself."
_EDIT = "Write another model, or undo the edit."
_S, _B, _C, _E, _O = (
    Class.STATE,
    Class.BAD_REVISION,
    Class.CURED_OUTSIDE,
    Class.ENVIRONMENT,
    Class.OPERATOR,
)

EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.Pending: Explanation(
        _S,
        "The object is there; no operator has looked at it yet.",
        "Nothing; if it stays so, see whether the operator runs.",
    ),
    Reason.Inspecting: Explanation(_S, "The hub is asked for commit, files and sizes.", _WAIT),
    Reason.Staging: Explanation(_S, "The weights are being put on the claim.", _WAIT),
    Reason.Staged: Explanation(_S, "The weights are complete and verified.", "Nothing."),
    Reason.Downloading: Explanation(_S, "The candidate's weights are on their way.", _WAIT),
    Reason.Starting: Explanation(_S, "A pod starts or loads the model.", _WAIT),
    Reason.Verifying: Explanation(_S, "The operator asks the candidate a real question.", _WAIT),
    Reason.Scaling: Explanation(_S, "The candidate answers; its other pods start.", _WAIT),
    Reason.Switching: Explanation(_S, "Traffic is being moved to the candidate.", _WAIT),
    Reason.Baking: Explanation(
        _S, "The new revision has the traffic and is watched; the old pods are warm.", _WAIT
    ),
    Reason.Serving: Explanation(_S, "What was asked for serves.", "Nothing."),
    Reason.Pinned: Explanation(
        _S,
        "The revision of rollout.pinnedRevision serves, whatever the rest of spec says.",
        "Remove rollout.pinnedRevision to follow spec again.",
    ),
    Reason.Paused: Explanation(
        _S, "spec.rollout.paused holds the rollout where it is.", "Set rollout.paused to false."
    ),
    Reason.Held: Explanation(
        _S,
        "The revision was found bad under traffic, and rollout.failurePolicy is Hold.",
        "Write another model, or set rollout.failurePolicy to Rollback.",
    ),
    Reason.MakingRoom: Explanation(
        _S, "The serving pods stop so that the candidate finds room; nothing answers.", _WAIT
    ),
    Reason.Stopped: Explanation(_S, "spec.replicas is 0.", "Set spec.replicas to serve again."),
    Reason.NothingServes: Explanation(_S, "No revision has had the traffic yet.", _WAIT),
    Reason.PartiallyAvailable: Explanation(
        _S, "Fewer pods are Ready than wanted.", "See the events of the pods that are not Ready."
    ),
    Reason.RollingBack: Explanation(_S, "The last good revision is being brought back.", _WAIT),
    Reason.RolledBack: Explanation(
        _S,
        "The target was bad; the last good revision serves.",
        "Read the cause in the message; write another model, or annotate carepath.ai/retry.",
    ),
    Reason.RollbackFailed: Explanation(
        _S,
        "The target was bad and the last good revision does not come back either.",
        "Read the message; the last good revision serves as soon as its pods are Ready.",
    ),
    Reason.RollbackUnavailable: Explanation(
        _S,
        "spec.rollout.pinnedRevision names no Verified revision; nothing is changed.",
        "Name one that `kubectl get chatmodelrevisions` shows as Verified.",
    ),
    Reason.NoPreviousRevision: Explanation(
        _S, "The target was bad and nothing good has ever served.", _EDIT
    ),
    Reason.ModelNotFound: Explanation(_B, "The hub has no such model.", "Correct model.id."),
    Reason.RevisionNotFound: Explanation(
        _B, "The model has no such commit, tag or branch.", "Correct model.revision."
    ),
    Reason.UnsafeModelContent: Explanation(
        _B, "The model's files ask for code to be run, or hold no safe weights.", _EDIT
    ),
    Reason.IntegrityError: Explanation(
        _B, "The files differ from what the hub promised.", "Annotate carepath.ai/retry."
    ),
    Reason.ChatTemplateMissing: Explanation(
        _B, "The model has no chat template.", "Take the model's instruct or chat variant."
    ),
    Reason.EngineUnsupported: Explanation(
        _B,
        "No engine loads this kind of model, or it has no weights of the quantization asked for.",
        "The message says what it has: write another model or quantization, or undo the edit.",
    ),
    Reason.ModelLoadFailed: Explanation(
        _B, "The files are whole, but the model does not load.", _EDIT
    ),
    Reason.InsufficientMemory: Explanation(
        _B,
        "The model needs more memory than its class allows; no pod was started.",
        "Name a larger instanceClassName, or a smaller model.",
    ),
    Reason.OOMKilled: Explanation(
        _B,
        "A pod used more memory than its class allows.",
        "Name a larger instanceClassName, or a smaller model.",
    ),
    Reason.CrashLooping: Explanation(
        _B, "A pod ended three times, or once under traffic.", "See `kubectl logs --previous`."
    ),
    Reason.ReadinessLost: Explanation(
        _B, "A pod under traffic stopped being Ready during the bake.", "See the pod's logs."
    ),
    Reason.ImageNotFound: Explanation(
        _B, "The registry has no such runtime image.", "Correct images in the operator's settings."
    ),
    Reason.InvalidImageName: Explanation(
        _B, "The image name cannot be read.", "Correct images in the operator's settings."
    ),
    Reason.ConfigError: Explanation(
        _B, "The runtime refuses its configuration.", "Use matching operator and runtime images."
    ),
    Reason.VerificationFailed: Explanation(_B, "Three answers running were wrong or empty.", _EDIT),
    Reason.ProgressDeadlineExceeded: Explanation(
        _B,
        "Nothing moved for the progress deadline.",
        "Raise rollout.progressDeadlineSeconds if the model only needs longer.",
    ),
    Reason.HubUnauthorizedOrNotFound: Explanation(
        _C,
        "The hub answered 401: the model is not there, is private, or the token is wrong.",
        "Check model.id and the Secret of model.tokenSecretRef.",
    ),
    Reason.ModelGated: Explanation(
        _C, "The model's owner has not let the token in.", "Accept the model's terms on the hub."
    ),
    Reason.HubUnavailable: Explanation(
        _E, "The hub does not answer, or asks to wait.", "Nothing; it is asked again."
    ),
    Reason.InsufficientStorage: Explanation(
        _E, "The volume has no room for the model.", "Make room on the node."
    ),
    Reason.CacheMissing: Explanation(_E, "The staged files are not there.", _WAIT),
    Reason.ApiKeyMissing: Explanation(
        _E, "The Secret with the API key is not there.", "Nothing; the operator creates it."
    ),
    Reason.FetchInterrupted: Explanation(
        _E, "The Job that fetches the weights was interrupted.", "Nothing; it runs again."
    ),
    Reason.WaitingForVolume: Explanation(
        _E, "The claim is not bound, or its volume not attached.", "See the claim's events."
    ),
    Reason.VolumeLost: Explanation(
        _E,
        "The claim's volume is gone.",
        "Delete the claim, then the pods that mount it: the model is fetched again.",
    ),
    Reason.StorageClassMissing: Explanation(
        _E,
        "There is no such StorageClass.",
        "Have it created, or make the ChatModel anew with another cache.storageClassName.",
    ),
    Reason.SecretNotFound: Explanation(
        _E, "A Secret that a pod needs is not there.", "Create the Secret named in the message."
    ),
    Reason.SecretKeyMissing: Explanation(
        _E, "The Secret has no such key.", "Add the key named in the message."
    ),
    Reason.EmbeddedImageMissing: Explanation(
        _E,
        "The administrator has named no image with this model and commit inside.",
        "Have it added to embedded in the operator's settings, or use another cache.strategy.",
    ),
    Reason.NodeLost: Explanation(
        _E, "The node of a pod does not answer.", "Nothing; the pod is replaced."
    ),
    Reason.SwapNeedsPersistentCache: Explanation(
        _E,
        "There is no room for a second copy, and the old weights would be lost with its pod.",
        "Add room, use cache.strategy Persistent, or set rollout.strategy to Recreate.",
    ),
    Reason.Unschedulable: Explanation(
        _E, "No node has room for the pod.", "Add a node, or name a smaller instanceClassName."
    ),
    Reason.QuotaExceeded: Explanation(
        _E, "The namespace's quota admits no further pod.", "Raise the quota."
    ),
    Reason.RegistryUnavailable: Explanation(
        _E, "The image registry does not answer or refuses us.", "Check the registry."
    ),
    Reason.VerificationUnreachable: Explanation(
        _E,
        "The operator cannot reach the pod's management port.",
        "Check network policies between the operator and port 9090.",
    ),
    Reason.InstanceClassNotFound: Explanation(
        _E, "There is no such InstanceClass.", "See `kubectl get instanceclasses`."
    ),
    Reason.InvalidSpec: Explanation(
        _O, "The stored spec is not one this operator understands.", "Correct the named field."
    ),
    Reason.NotAllowed: Explanation(
        _O,
        "The operator's settings do not allow this model, revision or patient source.",
        "Write one that they allow, or have allowed in the operator's settings changed.",
    ),
    Reason.SchemaMismatch: Explanation(
        _O,
        "The cluster's CRDs lack a field or a kind that this operator writes.",
        "Apply the CRDs of the operator's version.",
    ),
    Reason.DriftContested: Explanation(
        _O,
        "Somebody else changes one of our objects as often as we mend it.",
        "Stop the other writer; `kubectl get -o yaml --show-managed-fields` names it.",
    ),
    Reason.NameConflict: Explanation(
        _O, "An object that is not ours has a name we need.", "Rename one of the two."
    ),
    Reason.WaitingForCleanup: Explanation(
        _O, "A name is still held by what an earlier ChatModel of that name left.", _WAIT
    ),
    Reason.AdmissionDenied: Explanation(
        _O, "The API server refused one of our objects.", "Read its words in the message."
    ),
    Reason.PermissionDenied: Explanation(
        _O, "The operator lacks a permission.", "Apply the operator's RBAC again."
    ),
}
