"""Every string the cluster sees besides the API: labels, annotations, ports, paths, child names.

Used everywhere. Child names are deterministic, so that a lost reply never makes a second object.
"""

from chatmodel_operator.api.fields import GROUP

FIELD_MANAGER = "chatmodel-operator"
SYSTEM_NAMESPACE = "chatmodel-system"
LEASE = "chatmodel-operator"
ENV_POD_NAMESPACE, ENV_POD_NAME = "POD_NAMESPACE", "POD_NAME"

LABEL_CHATMODEL = f"{GROUP}/chatmodel"
LABEL_REVISION = f"{GROUP}/revision"
LABEL_ROLE = f"{GROUP}/role"
LABEL_CLAIM = f"{GROUP}/claim"
# A verdict is stamped as labels: the Deployment controller copies annotations to the ReplicaSet,
# which costs three writes more.
LABEL_VERDICT, LABEL_VERDICT_AT = f"{GROUP}/verdict", f"{GROUP}/verdict-at"
ROLE_SERVE, ROLE_INSPECT, ROLE_STAGE = "serve", "inspect", "stage"

ANNOTATION_RETRY = f"{GROUP}/retry"
ANNOTATION_NUMBER = f"{GROUP}/number"
ANNOTATION_COMMIT = f"{GROUP}/commit"
ANNOTATION_FILES = f"{GROUP}/files"
ANNOTATION_SOURCE = f"{GROUP}/source"
ANNOTATION_REASON = f"{GROUP}/reason"
ANNOTATION_MESSAGE = f"{GROUP}/message"

PUBLIC_PORT, PUBLIC_PORT_NAME = 8002, "http"
MANAGEMENT_PORT, MANAGEMENT_PORT_NAME = 9090, "management"

ENV_CONFIG = "CHATMODEL_CONFIG"
CONTAINER_SERVE, CONTAINER_STAGE, CONTAINER_INSPECT = "serve", "stage", "inspect"
MODELS_ROOT = "/models"
API_KEYS_DIR = "/var/run/secrets/chatmodel/api-keys"
HUB_TOKEN_DIR = "/var/run/secrets/chatmodel/hub-token"
API_KEY_KEY = "api-key"

# No pod carries this label value: the Service exists, and selects nothing.
NO_REVISION = "none"


def api_key_secret(chatmodel: str) -> str:
    """Return the name of the Secret with the API key."""
    return f"{chatmodel}-api-key"


def inspect_job(revision: str) -> str:
    """Return the name of the Job that inspects a revision's model."""
    return f"{revision}-inspect"


def stage_job(revision: str) -> str:
    """Return the name of the Job that stages a revision's model on the claim."""
    return f"{revision}-stage"


def models_claim(chatmodel: str) -> str:
    """Return the name of the PersistentVolumeClaim with the staged models."""
    return f"{chatmodel}-models"


def model_folder(model_id: str, commit: str, quantization: str) -> str:
    """Return the folder of a staged model below the models' root, `<org>--<name>/<commit>`.

    Of one commit each quantization lies for itself, as `<commit>-Int4`.
    """
    name = commit if quantization == "None" else f"{commit}-{quantization}"
    return f"{model_id.replace('/', '--')}/{name}"


def model_dir(model_id: str, commit: str, quantization: str) -> str:
    """Return the folder of a staged model in pods."""
    return f"{MODELS_ROOT}/{model_folder(model_id, commit, quantization)}"


def child_labels(
    chatmodel: str, revision: str | None = None, role: str | None = None
) -> dict[str, str]:
    """Return the labels of a child: the recommended ones, and ours, which selectors use."""
    labels = {
        "app.kubernetes.io/name": "chatmodel",
        "app.kubernetes.io/instance": chatmodel,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        LABEL_CHATMODEL: chatmodel,
    }
    if revision is not None:
        labels[LABEL_REVISION] = revision
    if role is not None:
        labels[LABEL_ROLE] = role
    return labels


def selector(chatmodel: str, revision: str) -> dict[str, str]:
    """Return the labels that select the serving pods of one revision."""
    return {LABEL_CHATMODEL: chatmodel, LABEL_REVISION: revision, LABEL_ROLE: ROLE_SERVE}
