"""When a goal of `make bench-runtime` is met, and when it is not."""

import runtime_goals
import runtime_models
import runtime_report
from runtime_report import MockStart, Prefix, Refusal, Sample, Server, Start

TITLES = {"ours": "Ours", "peer": "Peer", "other": "Other"}
PARTS = {"import": 1.0, "hash": 0.1, "load": 2.0, "first": 0.4}


def sample(server: str, rate: float, level: int = 4, failure: str = "") -> Sample:
    return Sample(server, level, rate=rate, failure=failure)


def ahead(*samples: Sample) -> list[bool]:
    goals = runtime_goals.judge_ahead("ours", ["peer", "other"], TITLES, list(samples))
    return [goal.is_met for goal in goals]


def test_ahead_is_more_than_the_best_peer() -> None:
    assert ahead(sample("ours", 10), sample("peer", 9), sample("other", 8)) == [True]
    assert ahead(sample("ours", 10), sample("peer", 9), sample("other", 11)) == [False]
    assert ahead(sample("ours", 10), sample("peer", 10)) == [False]


def test_medians_are_compared_not_the_luckiest_rounds() -> None:
    ours = [sample("ours", rate) for rate in (5, 6, 100)]
    assert ahead(*ours, *[sample("peer", 7)] * 3) == [False]


def test_every_level_is_a_goal_of_its_own() -> None:
    samples = [sample("ours", 10, 1), sample("peer", 9, 1)]
    assert ahead(*samples, sample("ours", 10, 16), sample("peer", 11, 16)) == [True, False]


def test_a_peer_that_failed_is_not_judged_and_one_of_ours_is_not_met() -> None:
    assert ahead(sample("ours", 10), sample("peer", 0, failure="cut")) == []
    assert ahead(sample("ours", 0, failure="cut"), sample("peer", 9)) == [False]
    assert ahead(sample("ours", 10), sample("ours", 0, failure="cut"), sample("peer", 9)) == [False]


def test_a_known_system_message_costs_at_most_a_third() -> None:
    found = [Prefix("ours", 300, 100, 290), Prefix("peer", 300, 101, 290)]
    found += [Prefix("other", 300, 100, 290), Prefix("other", failure="cut")]
    goals = runtime_goals.judge_prefixes(["ours", "peer", "other"], TITLES, found)
    assert [goal.is_met for goal in goals] == [True, False, False]


def test_what_was_not_measured_is_not_judged() -> None:
    assert runtime_goals.judge_prefixes(["ours"], TITLES, []) == []
    assert runtime_goals.judge_starts([]) == runtime_goals.judge_mock([]) == []


def test_a_start_may_take_its_parts_and_half_a_second() -> None:
    starts = [Start("OpenVINO", 3.9, PARTS), Start("Transformers", 4.1, PARTS)]
    assert [goal.is_met for goal in runtime_goals.judge_starts(starts)] == [True, False]


def test_the_mock_has_half_a_second_or_half_as_much_again_as_a_bare_application() -> None:
    def is_met(mock: float, bare: float) -> bool:
        return runtime_goals.judge_mock([MockStart(mock, bare)])[0].is_met

    assert is_met(0.5, 0.1) and is_met(0.89, 0.6)
    assert not is_met(0.51, 0.1) and not is_met(0.91, 0.6)


def test_only_our_own_memory_has_a_limit_and_who_did_not_start_keeps_none() -> None:
    def server(peak: float, *, is_ours: bool, problem: str = "") -> Server:
        return Server("a", "A", "4-bit", is_ours, peak_mib=peak, problem=problem)

    servers = [server(99, is_ours=True), server(101, is_ours=True), server(999, is_ours=False)]
    servers.append(server(0, is_ours=True, problem="gone"))
    assert [goal.is_met for goal in runtime_goals.judge_memory(servers, 100)] == [
        True,
        False,
        False,
    ]


def test_a_refusal_has_its_exit_code_both_numbers_and_took_no_memory() -> None:
    told = "needs 0.84 GB, 0.27 GB of it weights; 0.54 GB may be used"
    found = [
        Refusal("OpenVINO", 65, told, 60),
        Refusal("OpenVINO", 137, told, 60),
        Refusal("OpenVINO", 65, "", 60),
        Refusal("OpenVINO", 65, told, 600),
    ]
    goals = runtime_goals.judge_refusals(found, 512)
    assert [goal.is_met for goal in goals] == [True, False, False, False]


def test_equal_weights_stand_together_and_the_fastest_first() -> None:
    servers = [Server(n, n, w, False) for n, w in (("a", "b16"), ("b", "b4"), ("c", "b16"))]
    samples = [Sample("a", 1, rate=5), Sample("b", 1, rate=1), Sample("c", 1, rate=6)]
    table = runtime_report.build_speed(servers, samples, [1]).splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| c", "| a", "| b"]


def test_a_server_that_could_not_be_had_is_a_row_with_the_reason() -> None:
    servers = [Server("a", "A", "b4", False, problem="no wheel for this processor")]
    *_, row = runtime_report.build_speed(servers, [], [1, 4]).splitlines()
    assert row.startswith("| A | b4 | not measured: no wheel for this processor |")
    assert row.count("|") == runtime_report.build_speed([], [], [1, 4]).splitlines()[0].count("|")


def test_waves_that_failed_are_counted_in_their_cell() -> None:
    samples = [Sample("a", 4, rate=3.0), Sample("a", 4, failure="status 500")]
    table = runtime_report.build_speed([Server("a", "A", "b4", False)], samples, [4])
    assert "| 3.0 failed 1 of 2 |" in table


def test_goals_say_met_or_not() -> None:
    goals = runtime_goals.judge_mock([MockStart(9, 1)])
    assert "NOT MET" in runtime_report.build_goals(goals)


def test_a_server_of_ours_that_did_not_start_is_behind() -> None:
    results = runtime_models.Results(samples=[Sample("llama.cpp", 4, rate=1.0)])
    results.servers = [
        Server("ours-auto-gguf", "Ours", "4-bit", True, problem="gone"),
        Server("llama.cpp", "Llama", "4-bit", False),
    ]
    assert [goal.is_met for goal in runtime_models.judge(results)] == [False, False]


def test_our_slower_engine_is_held_against_its_own_library_alone() -> None:
    results = runtime_models.Results()
    for name, rate in (("ours-auto-safetensors", 5.0), ("transformers-serve", 4.0), ("vllm", 9.0)):
        is_ours = name.startswith("ours")
        results.servers.append(Server(name, name, "b16", is_ours, peak_mib=1))
        results.samples.append(Sample(name, 4, rate=rate))
    assert all(goal.is_met for goal in runtime_models.judge(results))
