"""Who leads: one Lease in the operator's own namespace, so that one process at a time writes.

Started by `handlers`. A standby only reads the Lease; the leader renews it, and gives it back when
it ends. Clocks of two machines are never compared: a Lease has run out when it has not changed for
its duration, measured on our own monotonic clock. A leader that cannot renew stops in time: its
right to write ends `renewDeadlineSeconds` after the last renewal was *sent*, which is earlier than
any standby can see the Lease run out. Knows nothing of ChatModels.
"""

import asyncio
import dataclasses
import datetime
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from chatmodel_operator import errors, names
from chatmodel_operator.api_client import JSON, MERGE, ApiClient, path_of
from chatmodel_operator.settings import LeaderElection

logger = logging.getLogger(__name__)
RELEASE_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Lease:
    """What the API server says of the Lease; no holder means that it was given back."""

    version: str
    holder: str | None
    seconds: float
    transitions: int
    acquired: str | None


def read_lease(body: Mapping[str, Any]) -> Lease:
    """Return a Lease; whatever is missing counts as nothing."""
    spec = body.get("spec") or {}
    return Lease(
        version=str((body.get("metadata") or {}).get("resourceVersion")),
        holder=spec.get("holderIdentity") or None,
        seconds=float(spec.get("leaseDurationSeconds") or 0),
        transitions=int(spec.get("leaseTransitions") or 0),
        acquired=spec.get("acquireTime"),
    )


class Sighting:
    """The Lease as last seen, and since when it has not changed. Pure; time is an argument."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self.lease: Lease | None = None
        self._since = 0.0

    def see(self, lease: Lease | None, now: float) -> None:
        """Take what was read; only a change begins the time anew."""
        if lease is None or self.lease is None or lease.version != self.lease.version:
            self._since = now
        self.lease = lease

    def is_ours_to_take(self, now: float) -> bool:
        """Say whether the Lease is absent, given back, ours already, or has run out."""
        lease = self.lease
        if lease is None or lease.holder in (None, self._identity):
            return True
        return now - self._since > lease.seconds

    def next_spec(self, settings: LeaderElection, now: datetime.datetime) -> dict[str, Any]:
        """Return the spec that makes the Lease ours, or keeps it."""
        stamp, lease = format_micro_time(now), self.lease
        is_ours = lease is not None and lease.holder == self._identity
        transitions = lease.transitions if lease is not None else 0
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": settings.lease_duration_seconds,
            "acquireTime": (lease.acquired if is_ours and lease is not None else None) or stamp,
            "renewTime": stamp,
            "leaseTransitions": transitions if is_ours or lease is None else transitions + 1,
        }


class Election:
    """One candidate. `gained` starts what only a leader does, `lost` ends it at once."""

    def __init__(
        self,
        client: ApiClient,
        settings: LeaderElection,
        *,
        namespace: str,
        identity: str,
        gained: Callable[[], None],
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        self._client = client
        self._settings = settings
        self._namespace = namespace
        self._identity = identity
        self._gained, self._lost = gained, lost
        self._seen = Sighting(identity)
        self._is_fresh = False  # what was seen is the newest state, as far as we know
        self._leads_until = 0.0
        self._is_failing = False

    def is_leading(self) -> bool:
        """Say whether this process may write now; asked before every write."""
        return time.monotonic() < self._leads_until

    async def run(self) -> None:
        """Contest the Lease for ever; a leader that lost it becomes a standby again.

        Not an exit: passes hold nothing but what a cancelled task lets go, and the caches of this
        process stay warm, so that a standby is ready at once.
        """
        while True:
            await self._try()
            if self.is_leading():
                logger.info("leading as %s", self._identity)
                try:
                    self._gained()
                    await self._keep()
                finally:
                    await self._lost()
                logger.warning("no longer leading")
            await asyncio.sleep(self._settings.retry_seconds)

    async def release(self) -> None:
        """Give the Lease back if it is ours, after the last write; then nobody has to wait."""
        self._leads_until = 0.0
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._read()
                if self._seen.lease is not None and self._seen.lease.holder == self._identity:
                    await self._write({"holderIdentity": None})
                    logger.info("lease given back")
        except (errors.ClusterError, TimeoutError) as error:
            logger.warning("lease not given back, it will run out: %s", error)
        finally:
            await self._client.close()

    async def _keep(self) -> None:
        """Renew until the Lease is somebody else's, or could not be renewed in time."""
        while self.is_leading():
            left = self._leads_until - time.monotonic()
            await asyncio.sleep(min(self._settings.retry_seconds, left))
            if self.is_leading():  # a process that was stopped for a while wakes up here
                await self._try()

    async def _try(self) -> None:
        """Read or renew once; what goes wrong is tried again by the caller."""
        began, limit = time.monotonic(), self._settings.renew_deadline_seconds / 2
        if self.is_leading():
            limit = min(limit, self._leads_until - began)
        try:
            async with asyncio.timeout(limit):
                await self._contest(began)
        except errors.Conflict:
            self._is_fresh = False  # somebody else wrote, or our own reply was lost
        except (errors.ClusterError, TimeoutError) as error:
            self._is_fresh = False
            if not self._is_failing:
                text = str(error) or type(error).__name__
                logger.warning("the lease cannot be read or written: %s", text)
            self._is_failing = True
        else:
            self._is_failing = False

    async def _contest(self, began: float) -> None:
        if not (self.is_leading() and self._is_fresh):
            await self._read()
        if not self._seen.is_ours_to_take(time.monotonic()):
            self._leads_until = 0.0
            return
        await self._write(self._seen.next_spec(self._settings, self._client.now()))
        self._leads_until = began + self._settings.renew_deadline_seconds
        self._is_fresh = True

    async def _read(self) -> None:
        try:
            body = await self._client.request("GET", self._path(names.LEASE))
        except errors.Rejected as error:
            if error.reason != "NotFound":
                raise
            self._seen.see(None, time.monotonic())
        else:
            self._seen.see(read_lease(body), time.monotonic())

    async def _write(self, spec: dict[str, Any]) -> None:
        """Write the Lease exactly as it was seen. Raises `Conflict` when it has changed since."""
        lease = self._seen.lease
        if lease is None:
            meta = {"name": names.LEASE, "namespace": self._namespace}
            head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
            answer = await self._client.request("POST", self._path(), head | {"spec": spec}, JSON)
        else:
            body = {"metadata": {"resourceVersion": lease.version}, "spec": spec}
            answer = await self._client.request("PATCH", self._path(names.LEASE), body, MERGE)
        self._seen.see(read_lease(answer), time.monotonic())

    def _path(self, name: str | None = None) -> str:
        return path_of("Lease", self._namespace, name)


def format_micro_time(moment: datetime.datetime) -> str:
    """Return a time as the API's MicroTime."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
