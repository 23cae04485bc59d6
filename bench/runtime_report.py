"""The results of `make bench-runtime` as tables, and its goals with met or not met. Pure but `say`.

Medians of interleaved rounds, least and most in brackets. A goal about a server that was not
measured is not judged; one about a server that failed is not met.
"""

import dataclasses
import statistics
import sys
from collections.abc import Callable, Iterable

import report

MOST_OF_UNSHARED = 1 / 3
MOST_BEYOND_PARTS = 0.5  # seconds
MOST_MOCK_SECONDS, MOST_TIMES_BARE = 0.5, 1.5
BAD_MODEL = 65  # the exit code for a model that cannot serve here


def say(text: str) -> None:
    """Print what is going on, beside the report."""
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One wave on one server, or why there is none."""

    server: str
    level: int
    rate: float = 0.0  # tokens a second of all streams together
    first_ms: float = 0.0
    last_first_ms: float = 0.0
    cpu_ms: float = 0.0  # of the server, for a token
    other_cpus: float = 0.0
    short: int = 0  # answers that ended by themselves
    prompt_tokens: int = 0
    pss_mib: float = 0.0
    failure: str = ""

    def line(self) -> str:
        """Return the sample in a line."""
        if self.failure:
            return f"{self.server} @{self.level}: FAILED: {self.failure}"
        return (
            f"{self.server} @{self.level}: {self.rate:.1f} tokens/s, first"
            f" {self.first_ms:.0f} ms, {self.cpu_ms:.1f} ms CPU a token,"
            f" others {self.other_cpus:.2f}, {self.short} ended early"
        )


@dataclasses.dataclass(frozen=True)
class Server:
    """One server over the whole run; `problem` says why it was not measured."""

    name: str
    title: str
    weights: str
    is_ours: bool
    ready_seconds: float = 0.0
    first_seconds: float = 0.0  # from the start to the first token of the first request
    peak_mib: float = 0.0
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Prefix:
    """First tokens behind a new system message and behind one that was sent before."""

    server: str
    unshared_ms: float = 0.0
    shared_ms: float = 0.0
    prompt_tokens: int = 0
    failure: str = ""

    def line(self) -> str:
        """Return the pair in a line."""
        if self.failure:
            return f"{self.server}: FAILED behind a system message: {self.failure}"
        return (
            f"{self.server}: first token {self.unshared_ms:.0f} ms behind a new system message,"
            f" {self.shared_ms:.0f} ms behind a known one ({self.prompt_tokens} tokens)"
        )


@dataclasses.dataclass(frozen=True)
class Start:
    """One start of an engine, and the seconds of its parts, each measured alone."""

    engine: str
    seconds: float
    parts: dict[str, float]

    def line(self) -> str:
        """Return the start in a line."""
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in self.parts.items())
        return f"{self.engine}: ready after {self.seconds:.2f} s; alone: {parts}"


@dataclasses.dataclass(frozen=True)
class MockStart:
    """Seconds to ready of the mock, and to the first answer of a bare FastAPI route."""

    seconds: float
    bare: float

    def line(self) -> str:
        """Return the pair in a line."""
        return f"mock ready after {self.seconds:.2f} s, bare FastAPI after {self.bare:.2f} s"


@dataclasses.dataclass(frozen=True)
class Refusal:
    """How a start with too little memory ended; `numbers` is what it said of them."""

    engine: str
    exit_code: int
    numbers: str
    peak_mib: float

    def line(self) -> str:
        """Return the refusal in a line."""
        said = self.numbers or "no numbers"
        return f"{self.engine}: exit {self.exit_code}, {said}, peak {self.peak_mib:.0f} MiB"


@dataclasses.dataclass(frozen=True)
class Goal:
    """A goal, what was measured, and whether that is enough."""

    title: str
    measured: str
    is_met: bool


def median(values: Iterable[float]) -> float:
    """Return the middle one."""
    return statistics.median(list(values))


def cell(values: list[float], digits: int = 0) -> str:
    """Return the median, with least and most where there are several."""
    text = f"{statistics.median(values):.{digits}f}"
    most, least = max(values), min(values)
    return f"{text} [{least:.{digits}f}..{most:.{digits}f}]" if values[1:] else text


def build_speed(servers: list[Server], samples: list[Sample], levels: list[int]) -> str:
    """Return the table of all servers, equal weights together, the fastest first."""
    ranked = sorted(servers, key=lambda server: (server.weights, -_best(server, samples)))
    heads = ["server", "weights", *(f"tokens/s @{level}" for level in levels)]
    heads += [f"first token ms @{level}" for level in levels]
    heads += ["CPU ms a token", "others' CPUs", "ended early"]
    heads += ["ready s", "first answer s", "peak RSS MiB", "PSS MiB"]
    return report.markdown(heads, [_row(server, samples, levels) for server in ranked])


def _best(server: Server, samples: list[Sample]) -> float:
    return max((s.rate for s in samples if s.server == server.name), default=0.0)


def _row(server: Server, samples: list[Sample], levels: list[int]) -> list[str]:
    head = [server.title, server.weights]
    if server.problem:
        return [*head, f"not measured: {server.problem}", *[""] * (2 * len(levels) + 6)]
    own = [s for s in samples if s.server == server.name]
    whole = [s for s in own if not s.failure]
    row = [*head, *(_cell_of(own, level, lambda s: s.rate, 1) for level in levels)]
    row += [_cell_of(own, level, lambda s: s.first_ms) for level in levels]
    row += [_all(whole, lambda s: s.cpu_ms, 1), _all(whole, lambda s: s.other_cpus, 2)]
    row += [str(sum(s.short for s in whole))]
    row += [f"{server.ready_seconds:.1f}", f"{server.first_seconds:.1f}"]
    return [*row, f"{server.peak_mib:.0f}", f"{max((s.pss_mib for s in whole), default=0):.0f}"]


def _all(samples: list[Sample], value: Callable[[Sample], float], digits: int) -> str:
    return cell([value(s) for s in samples], digits) if samples else ""


def _cell_of(
    samples: list[Sample], level: int, value: Callable[[Sample], float], digits: int = 0
) -> str:
    of_level = [s for s in samples if s.level == level]
    failures = [s.failure for s in of_level if s.failure]
    whole = [value(s) for s in of_level if not s.failure]
    text = cell(whole, digits) if whole else ""
    return f"{text} failed {len(failures)} of {len(of_level)}".strip() if failures else text


def build_goals(goals: list[Goal]) -> str:
    """Return the table of goals."""
    rows = [[g.title, g.measured, "met" if g.is_met else "NOT MET"] for g in goals]
    return report.markdown(["goal", "measured", ""], rows)
