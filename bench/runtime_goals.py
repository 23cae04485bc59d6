"""What the results of `make bench-runtime` are held against. Pure."""

from collections.abc import Iterable

from runtime_report import (
    BAD_MODEL,
    MOST_BEYOND_PARTS,
    MOST_MOCK_SECONDS,
    MOST_OF_UNSHARED,
    MOST_TIMES_BARE,
    Goal,
    MockStart,
    Prefix,
    Refusal,
    Sample,
    Server,
    Start,
    median,
)


def judge_ahead(
    ours: str, peers: list[str], titles: dict[str, str], samples: list[Sample]
) -> list[Goal]:
    """Return a goal for each level: more tokens a second than every peer that answered."""
    goals = []
    for level in sorted({s.level for s in samples}):
        mine = rates(samples, ours, level)
        theirs = {name: rates(samples, name, level) for name in peers}
        answered = [name for name in peers if theirs[name]]
        if not answered:
            continue
        best = max(answered, key=lambda name: median(theirs[name]))
        title = f"{titles[ours]}: ahead @{level} of {', '.join(answered)}"
        if not mine:
            goals.append(Goal(title, "did not answer", False))
            continue
        ratio = median(mine) / median(theirs[best])
        text = f"{ratio:.2f} times {best} ({median(mine):.1f} and {median(theirs[best]):.1f})"
        goals.append(Goal(title, text, ratio > 1 and not has_failed(samples, ours, level)))
    return goals


def rates(samples: list[Sample], server: str, level: int) -> list[float]:
    """Return the rates of a server's waves that did not fail."""
    return [s.rate for s in samples if (s.server, s.level) == (server, level) and not s.failure]


def has_failed(samples: list[Sample], server: str, level: int) -> bool:
    """Say whether a wave of a server failed."""
    return any(s.failure for s in samples if (s.server, s.level) == (server, level))


def judge_prefixes(names: list[str], titles: dict[str, str], found: list[Prefix]) -> list[Goal]:
    """Return a goal for each server: the known system message costs at most a third."""
    goals = []
    for name in names:
        own = [prefix for prefix in found if prefix.server == name]
        title = f"{titles[name]}: first token behind a shared system message, at most a third"
        failures = [prefix.failure for prefix in own if prefix.failure]
        if failures:
            goals.append(Goal(title, failures[0], False))
        elif own:
            new = median(p.unshared_ms for p in own)
            known = median(p.shared_ms for p in own)
            text = f"{known:.0f} of {new:.0f} ms, {known / new:.2f}"
            goals.append(Goal(title, text, known <= MOST_OF_UNSHARED * new))
    return goals


def judge_starts(found: list[Start]) -> list[Goal]:
    """Return a goal for each engine: ready in no more than its parts and half a second."""
    goals = []
    for engine in _in_order(start.engine for start in found):
        own = [start for start in found if start.engine == engine]
        seconds = median(start.seconds for start in own)
        parts = {name: median(s.parts[name] for s in own) for name in own[0].parts}
        most = sum(parts.values()) + MOST_BEYOND_PARTS
        told = " + ".join(f"{name} {part:.2f}" for name, part in parts.items())
        text = f"{seconds:.2f} s of {most:.2f} ({told} + {MOST_BEYOND_PARTS:g})"
        goals.append(Goal(f"{engine}: start to ready", text, seconds <= most))
    return goals


def judge_mock(found: list[MockStart]) -> list[Goal]:
    """Return the goal of the mock's start."""
    if not found:
        return []
    mock, bare = median(s.seconds for s in found), median(s.bare for s in found)
    most = max(MOST_MOCK_SECONDS, MOST_TIMES_BARE * bare)
    text = f"{mock:.2f} s of {most:.2f} (a bare FastAPI takes {bare:.2f})"
    return [Goal("mock: start to ready", text, mock <= most)]


def judge_memory(servers: list[Server], limit_mib: float) -> list[Goal]:
    """Return a goal for each of our servers: it ran, and its peak is under the class's limit."""
    return [
        Goal(
            f"{server.title}: peak RSS under its class's limit",
            server.problem or f"{server.peak_mib:.0f} of {limit_mib:.0f} MiB",
            not server.problem and server.peak_mib < limit_mib,
        )
        for server in servers
        if server.is_ours
    ]


def judge_refusals(found: list[Refusal], limit_mib: float) -> list[Goal]:
    """Return a goal for each engine: refused with both numbers, without ever having more."""
    goals = []
    for refusal in found:
        title = f"{refusal.engine}: refused before loading where {limit_mib:.0f} MiB may be used"
        told = refusal.numbers or "no numbers"
        text = f"exit {refusal.exit_code}; {told}; peak {refusal.peak_mib:.0f} MiB"
        is_told = refusal.exit_code == BAD_MODEL and bool(refusal.numbers)
        goals.append(Goal(title, text, is_told and refusal.peak_mib < limit_mib))
    return goals


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
