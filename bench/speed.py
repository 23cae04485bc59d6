"""Waves of 1, 4 and 16 streams on every server, interleaved; then what each of them holds.

Called by `runtime_models`. All servers stay up; what the idle ones and everybody else use of the
CPUs during a wave is measured and printed.
"""

import statistics
import time

import contenders
import meters
import runtime_report
import streams
from runtime_report import Sample

ALONE_TIMES = 3  # a single stream is short: so many one after another
QUESTION_WORDS = 70  # with the chat format 128 tokens


def say_failure(served: contenders.Served, level: int, error: Exception) -> Sample:
    """Return what stands for a wave that failed."""
    return Sample(served.contender.name, level, failure=str(error))


def bodies(model: str, seed: str, level: int, tokens: int) -> list[bytes]:
    """Return requests of which no two, in any wave, begin alike."""
    return [
        streams.build_body(
            model, streams.words(QUESTION_WORDS, f"{seed}-{n}") + ". " + streams.ASK, tokens
        )
        for n in range(level)
    ]


async def warm_up(served: contenders.Served, levels: list[int]) -> None:
    """Let a server see each number of streams once: some compile or measure at first."""
    for level in levels:
        await streams.ask_all(served.port, bodies(served.model, f"warm-{level}", level, 8))


async def measure_round(
    all_served: list[contenders.Served], number: int, levels: list[int], tokens: int
) -> list[Sample]:
    """Measure all servers at all levels; each round begins with another server."""
    turn = number % len(all_served)
    samples = []
    for level in levels:
        for served in all_served[turn:] + all_served[:turn]:
            try:
                samples.append(await _measure(served, number, level, tokens))
            except streams.Failed as error:
                samples.append(say_failure(served, level, error))
            runtime_report.say(samples[-1].line())
    return samples


async def _measure(served: contenders.Served, number: int, level: int, tokens: int) -> Sample:
    running = served.running
    before = (running.cpu_seconds(), time.process_time(), meters.busy_seconds())
    waves = []
    for time_of in range(ALONE_TIMES if level == 1 else 1):
        asked = bodies(served.model, f"{number}-{level}-{time_of}", level, tokens)
        waves.append(await streams.ask_all(served.port, asked))
    cpu = running.cpu_seconds() - before[0]
    own = time.process_time() - before[1]
    others = meters.busy_seconds() - before[2] - cpu - own
    seconds = sum(wave.seconds for wave in waves)
    answers = [answer for wave in waves for answer in wave.answers]
    made = sum(answer.tokens for answer in answers)
    return Sample(
        served.contender.name,
        level,
        rate=made / seconds,
        first_ms=statistics.median(answer.first for answer in answers) * 1000,
        last_first_ms=max(answer.first for answer in answers) * 1000,
        cpu_ms=cpu / made * 1000,
        other_cpus=max(0.0, others) / seconds,
        short=sum(answer.tokens < tokens for answer in answers),
        prompt_tokens=round(statistics.mean(answer.prompt_tokens for answer in answers)),
        pss_mib=running.pss_mib(),
    )
