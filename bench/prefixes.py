"""First tokens behind a system message of 256 tokens: one that was sent before, and a new one.

Called by `runtime_models`. One request at a time; the two kinds take turns.
"""

import contenders
import runtime_report
import streams
from runtime_report import Prefix

SYSTEM_WORDS, OWN_WORDS = 240, 12  # 256 tokens of system message; some thirty others


async def measure(served: contenders.Served, times: int) -> list[Prefix]:
    """Return so many pairs of first tokens, or the failure that ended it."""
    found: list[Prefix] = []
    try:
        await _measure(served, times, found)
    except streams.Failed as error:
        found.append(Prefix(served.contender.name, failure=str(error)))
        runtime_report.say(found[-1].line())
    return found


async def _measure(served: contenders.Served, times: int, found: list[Prefix]) -> None:
    same = streams.words(SYSTEM_WORDS, "shared")
    await _first(served, same, "warm")  # the server sees it for the first time
    for number in range(times):
        new = await _first(served, streams.words(SYSTEM_WORDS, f"new-{number}"), f"a-{number}")
        again = await _first(served, same, f"b-{number}")
        prefix = Prefix(
            served.contender.name,
            unshared_ms=new.first * 1000,
            shared_ms=again.first * 1000,
            prompt_tokens=again.prompt_tokens,
        )
        runtime_report.say(prefix.line())
        found.append(prefix)


async def _first(served: contenders.Served, system: str, seed: str) -> streams.Answered:
    question = streams.words(OWN_WORDS, seed)
    return await streams.ask(
        served.port, streams.build_body(served.model, question, 2, system=system)
    )
