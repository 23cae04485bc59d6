"""The runtime's drain window and the kubelet's probes, as the operator renders them."""

from typing import Any

import pytest
from rendered import BUILT_IN, EMBEDDED, MOCK, PERSISTENT, QWEN, template

from chatmodel_runtime import draining


@pytest.mark.parametrize("spec", [MOCK, QWEN, PERSISTENT, EMBEDDED])
def test_the_runtime_waits_for_as_many_probes_as_make_a_pod_not_ready(spec: dict[str, Any]) -> None:
    (container,) = template(spec)["spec"]["containers"]
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] == draining.PROBE_SECONDS
    assert probe["failureThreshold"] == draining.FAILED_PROBES


def test_the_window_has_room_for_the_probes_and_for_answers_before_them() -> None:
    noticed = draining.FAILED_PROBES * draining.PROBE_SECONDS
    assert noticed + draining.QUIET_SECONDS < draining.LEAVING_SECONDS
    assert draining.LEAVING_SECONDS < BUILT_IN.timings.drain_seconds
