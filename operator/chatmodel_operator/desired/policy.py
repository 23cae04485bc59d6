"""What guards the serving pods: a disruption budget, and what the network lets through."""

from collections.abc import Iterable

from chatmodel_operator import names
from chatmodel_operator.desired.metadata import Manifest, build_metadata
from chatmodel_operator.observed import ChatModel
from chatmodel_operator.settings import Network, Peer

DNS_PORT = 53


def build_disruption_budget(chatmodel: ChatModel, serving: str) -> Manifest:
    """Return the budget of the serving revision; pods that are not healthy block no drain."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": build_metadata(chatmodel, chatmodel.name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": names.selector(chatmodel.name, serving)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def build_network_policy(chatmodel: ChatModel, network: Network, *, calls_hub: bool) -> Manifest:
    """Return the policy of the serving pods: out to DNS and the patient API, in to two ports.

    `calls_hub`: a pod fetches its own weights (cache strategy Ephemeral), so the hub is let through
    for the whole pod: a policy selects pods, not containers.
    """
    assert chatmodel.spec is not None
    egress: list[Manifest] = [
        {"ports": [{"port": DNS_PORT, "protocol": name} for name in ("UDP", "TCP")]}
    ]
    if chatmodel.spec.patient_context.source == "Http":
        egress += _to(network.patient_api)
    if calls_hub:
        egress += _to(network.hub)
    operators = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
        for name in network.management_namespaces
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": build_metadata(chatmodel, chatmodel.name),
        "spec": {
            "podSelector": {
                "matchLabels": {
                    names.LABEL_CHATMODEL: chatmodel.name,
                    names.LABEL_ROLE: names.ROLE_SERVE,
                }
            },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"ports": [{"port": names.PUBLIC_PORT, "protocol": "TCP"}]},
                {
                    "from": operators,
                    "ports": [{"port": names.MANAGEMENT_PORT, "protocol": "TCP"}],
                },
            ],
            "egress": egress,
        },
    }


def _to(peers: Iterable[Peer]) -> list[Manifest]:
    rules = []
    for peer in peers:
        rule: Manifest = {"to": [{"ipBlock": {"cidr": peer.cidr}}]}
        if peer.ports:
            rule["ports"] = [{"port": port, "protocol": "TCP"} for port in peer.ports]
        rules.append(rule)
    return rules
