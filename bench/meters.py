"""What a run cost: the API server's own metrics, and /proc of the operator's process."""

import collections
import dataclasses
import os
import pathlib
import re
import time
import urllib.request
from collections.abc import Callable

import api

FLOW_SCHEMA = "chatmodel-bench"
OPERATOR_PORT = 18190  # of this operator's metrics, inside node 1's network namespace
# Heartbeats of nodes and controllers go on by themselves, with and without ChatModels.
BACKGROUND = {"", "leases", "nodes", "tokenreviews", "subjectaccessreviews", "apiservices"}
WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION")
_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_FAMILIES = (
    "process_cpu_seconds_total",
    "apiserver_request_total",
    "apiserver_flowcontrol_dispatched_requests_total",
)
_TICKS = os.sysconf("SC_CLK_TCK")
Measure = Callable[[int], float]  # of a process


@dataclasses.dataclass(frozen=True)
class Reading:
    """The API server's counters at one moment, seconds of CPU among them."""

    at: float
    cpu: float
    requests: collections.Counter[tuple[str, str]]  # by (verb, resource)
    own: int  # requests of the measured process

    @property
    def writes(self) -> dict[str, int]:
        """Return the writes so far, by verb and resource."""
        return {f"{v} {r}": n for (v, r), n in self.requests.items() if v in WRITES}


async def read(client: api.Api) -> Reading:
    """Read the API server's metrics; the reading itself costs it about 0.1 s of CPU."""
    text = await client.text("GET", "/metrics")
    requests: collections.Counter[tuple[str, str]] = collections.Counter()
    cpu, own = 0.0, 0
    for family, labels_text, value in _find(text):
        labels = dict(_LABEL.findall(labels_text))
        if family == "process_cpu_seconds_total":
            cpu = float(value)
        elif family == "apiserver_request_total":
            if labels["resource"] not in BACKGROUND:
                requests[labels["verb"], labels["resource"]] += int(float(value))
        elif labels["flow_schema"] == FLOW_SCHEMA:
            own += int(float(value))
    return Reading(time.monotonic(), cpu, requests, own)


def _find(text: str) -> list[tuple[str, str, str]]:
    # Most of the text is histograms: only lines of our families meet the expression.
    lines = (line for line in text.splitlines() if line.startswith(_FAMILIES))
    return _LINE.findall("\n".join(lines))


def operator_cpu() -> dict[str, float]:
    """Return this operator's own count of the CPU seconds of its passes."""
    url = f"http://127.0.0.1:{OPERATOR_PORT}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found = dict(
        re.findall(r"^chatmodel_operator_(\w+)_cpu_seconds_total (\S+)$", text, re.MULTILINE)
    )
    return {name: float(value) for name, value in found.items()}


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def busy_seconds() -> float:
    """Return the seconds that all CPUs of the machine have worked."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq = (int(field) for field in fields[:7])
    return (user + nice + system + irq + softirq) / _TICKS


def memory_mib(pid: int, field: str) -> float:
    """Return VmHWM (the peak) or VmRSS (now) of a process; one that has ended has none."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def machine() -> str:
    """Return what was measured on, in a line."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} CPUs ({model[1].strip() if model else 'unknown'}), {memory:.0f} GiB,"
        f" Linux {os.uname().release}, load {load:.1f} at the start"
    )
