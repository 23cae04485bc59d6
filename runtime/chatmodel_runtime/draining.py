"""The end of a server: how long it goes on answering after SIGTERM, and when it may stop sooner.

Begun and awaited by `server`, which also notes requests; `management` notes probes from its thread.

In a swap on a full node the ending pod is the only one, and Kubernetes goes on sending it requests
as long as it is ready (KEP-1669). They must have stopped when its address goes: a connection to an
address that is gone is not refused, it hangs. So the server says that it leaves while it still
answers, and goes once the kubelet must have heard and no more requests come.
"""

import asyncio
import contextlib
import time

# The kubelet's readiness probe; tests/contract holds these against what the operator renders.
PROBE_SECONDS, FAILED_PROBES = 1.0, 3
KUBELET = "kube-probe/"  # how the kubelet's User-Agent begins
# kube-proxy writes rules at most once a second; before that two watches have to tell.
QUIET_SECONDS = 1.0
# Three probes, the time until all nodes know, and a second for a machine that is busy.
LEAVING_SECONDS = FAILED_PROBES * PROBE_SECONDS + QUIET_SECONDS + 1.0


class Drain:
    """The drain window of one process. Made in the loop that waits for it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._told, self._asked = asyncio.Event(), asyncio.Event()
        self._ends_at: float | None = None
        self._failed_probes = 0

    def has_begun(self) -> bool:
        """Say whether SIGTERM has come."""
        return self._ends_at is not None

    def is_leaving(self) -> bool:
        """Say whether no new request should come any more: the window is almost over."""
        return self._ends_at is not None and time.monotonic() > self._ends_at - LEAVING_SECONDS

    def note_request(self) -> None:
        """Remember that requests still come."""
        self._asked.set()

    def note_probe(self, user_agent: str) -> None:
        """Count who heard that we leave: after so many the kubelet calls the pod not ready."""
        if user_agent.startswith(KUBELET):
            self._failed_probes += 1
            if self._failed_probes == FAILED_PROBES:
                self._loop.call_soon_threadsafe(self._told.set)

    async def run(self) -> None:
        """Begin the window; return at its end, or once nobody is sent to us any more."""
        self._ends_at = time.monotonic() + self.seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await self._told.wait()
                while True:
                    self._asked.clear()
                    await asyncio.wait_for(self._asked.wait(), QUIET_SECONDS)
