"""Results as a table, and the goals with met or not met. Pure."""

import dataclasses
import statistics
from collections.abc import Callable

FLOOR, OURS = "floor", "ours"
MOST_TIMES_FLOOR = 1.25
MOST_PASSES_MS = 1.5
MOST_MIB, AT_COUNT = 100, 1000


@dataclasses.dataclass(frozen=True)
class Result:
    """One program in one round; all but wall and memory are per ChatModel."""

    program: str
    wall_seconds: float
    requests: float
    own_requests: float
    api_cpu_ms: float
    operator_cpu_ms: float
    peak_mib: float
    parts_ms: dict[str, float]  # of the operator's CPU, by its own count
    detail: dict[str, float]  # requests of all clients by "VERB resource"

    def of_verb(self, verb: str) -> float:
        """Return the requests of a verb."""
        return sum(n for key, n in self.detail.items() if key.split()[0] == verb)

    @property
    def passes_ms(self) -> float:
        """The CPU of the passes themselves, their requests left out."""
        return self.parts_ms["reconcile"]

    def line(self) -> str:
        """Return the result in a line."""
        return (
            f"{self.program}: {self.wall_seconds:.1f} s, API {self.api_cpu_ms:.1f} ms CPU and"
            f" {self.requests:.1f} requests each (own {self.own_requests:.1f}), operator"
            f" {self.operator_cpu_ms:.2f} ms each, {self.peak_mib:.0f} MiB"
        )


COLUMNS: tuple[tuple[str, int, Callable[[Result], float]], ...] = (
    ("wall s", 1, lambda r: r.wall_seconds),
    ("API server CPU ms", 1, lambda r: r.api_cpu_ms),
    ("API requests", 1, lambda r: r.requests),
    ("its own", 1, lambda r: r.own_requests),
    ("operator CPU ms", 2, lambda r: r.operator_cpu_ms),
    ("peak RSS MiB", 0, lambda r: r.peak_mib),
)


def build(results: list[Result], titles: dict[str, str], plan: dict[str, int], facts: str) -> str:
    """Return the whole report as Markdown."""
    groups = {name: [r for r in results if r.program == name] for name in titles}
    groups = {name: group for name, group in groups.items() if group}
    parts = [
        f"{plan['count']} ChatModels of mode mock in {plan['namespaces']} namespace(s), created at"
        f" once; medians of {plan['rounds']} interleaved round(s), min..max in brackets; CPU and"
        " requests per ChatModel, requests of all clients but heartbeats.",
        f"Machine: {facts}.",
        _table(groups, titles),
        _verbs(groups, titles),
        _parts(groups),
        _goals(groups, plan["count"]),
    ]
    return "\n\n".join(parts)


def _median(group: list[Result], value: Callable[[Result], float]) -> float:
    return statistics.median(value(r) for r in group)


def _cell(group: list[Result], digits: int, value: Callable[[Result], float]) -> str:
    numbers = sorted(value(r) for r in group)
    text = f"{statistics.median(numbers):.{digits}f}"
    return f"{text} [{numbers[0]:.{digits}f}..{numbers[-1]:.{digits}f}]" if numbers[1:] else text


def _table(groups: dict[str, list[Result]], titles: dict[str, str]) -> str:
    rows = [
        [titles[name], *(_cell(group, digits, value) for _, digits, value in COLUMNS)]
        + [_times_floor(groups, group, COLUMNS[n][2]) for n in (0, 1)]
        for name, group in groups.items()
    ]
    heads = [title for title, _, _ in COLUMNS]
    return markdown(["", *heads, "wall x floor", "API CPU x floor"], rows)


def _verbs(groups: dict[str, list[Result]], titles: dict[str, str]) -> str:
    keys = {key for group in groups.values() for r in group for key in r.detail}
    verbs = sorted({key.split()[0] for key in keys})
    rows = [
        [titles[name]] + [_cell_of_verb(group, verb) for verb in verbs]
        for name, group in groups.items()
    ]
    return markdown(["requests of all clients", *verbs], rows)


def _cell_of_verb(group: list[Result], verb: str) -> str:
    return f"{_median(group, lambda r: r.of_verb(verb)):.2f}"


def _times_floor(
    groups: dict[str, list[Result]], group: list[Result], value: Callable[[Result], float]
) -> str:
    if FLOOR not in groups:
        return ""
    return f"{_median(group, value) / _median(groups[FLOOR], value):.2f}"


def _parts(groups: dict[str, list[Result]]) -> str:
    if OURS not in groups:
        return "Parts of this operator's CPU: it was not measured."
    ours = groups[OURS]
    passes = _median(ours, lambda r: r.passes_ms)
    rest = _median(ours, lambda r: r.operator_cpu_ms) - passes
    return (
        f"This operator's CPU per ChatModel, ms: the passes themselves {passes:.2f}, all else"
        f" (requests, watches, TLS, verification) {rest:.2f}."
    )


def _goals(groups: dict[str, list[Result]], count: int) -> str:
    if OURS not in groups:
        return "Goals: this operator was not measured."
    ours, rows = groups[OURS], []
    if FLOOR in groups:
        for title, value in (("wall time", COLUMNS[0][2]), ("API server CPU", COLUMNS[1][2])):
            ratio = _median(ours, value) / _median(groups[FLOOR], value)
            rows.append(_goal(f"{title}, times the floor", MOST_TIMES_FLOOR, ratio))
    cpu = _median(ours, lambda r: r.passes_ms)
    rows.append(_goal("CPU of the passes per ChatModel, ms", MOST_PASSES_MS, cpu))
    mib = _median(ours, lambda r: r.peak_mib)
    at = "" if count == AT_COUNT else f" (a goal for {AT_COUNT}, measured at {count})"
    rows.append(_goal(f"operator's peak RSS, MiB{at}", MOST_MIB, mib))
    return markdown(["goal for this operator", "at most", "measured", ""], rows)


def _goal(title: str, most: float, measured: float) -> list[str]:
    return [title, f"{most:g}", f"{measured:.2f}", "met" if measured <= most else "NOT MET"]


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
