"""The Service, whose selector is the switch, and the ServiceAccount without any rights."""

from chatmodel_operator import names
from chatmodel_operator.desired.metadata import Manifest, build_metadata
from chatmodel_operator.observed import ChatModel


def build_service(chatmodel: ChatModel, serving: str | None) -> Manifest:
    """Return the Service; without a serving revision it selects nothing, but exists."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(chatmodel, chatmodel.name),
        "spec": {
            "selector": names.selector(chatmodel.name, serving or names.NO_REVISION),
            "ports": [
                {
                    "name": names.PUBLIC_PORT_NAME,
                    "port": names.PUBLIC_PORT,
                    "protocol": "TCP",
                    "targetPort": names.PUBLIC_PORT_NAME,
                }
            ],
        },
    }


def build_service_account(chatmodel: ChatModel) -> Manifest:
    """Return the pods' ServiceAccount: no roles, and its token is not mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": build_metadata(chatmodel, chatmodel.name),
        "automountServiceAccountToken": False,
    }


def build_api_key_secret(chatmodel: ChatModel, key: str) -> Manifest:
    """Return the Secret with the API key. It is created once and never read or written again."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": build_metadata(chatmodel, names.api_key_secret(chatmodel.name)),
        "stringData": {names.API_KEY_KEY: key},
    }
