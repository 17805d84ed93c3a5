"""How large the prompt of a long session is: a table of tokens by turn, with and without session memory.

Run: ``python tests/benchmarks/session_prompt.py [TURNS]`` (1,000 by default; half a minute). A clerk and an assistant
talk about building permits; most of what they say is small talk, some of it settles something. At each turn the session
is folded if need be and its prompt assembled: pinned rules, summary, six retrieved items, recent turns. Tokens are
counted as four bytes each, which is close to what the small models' tokenizers do with English.

``all`` is what a prompt with every turn in it would hold. ``settled`` is how many of the facts that were settled so far
still stand in the prompt, in the summary or the turns: the room is fixed, so a long session cannot keep them all there;
they are in the session itself, and in memory once it rests.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from edge_agent.sessions import Budget, Sessions, fold
from shared.context import Part, Parts, assemble

BUDGET = 1_400
SHOWN = (1, 10, 25, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1_000, 2_000, 5_000)
WHAT = "roof porch garage fence window stair boiler chimney drain sign antenna elevator".split()  # noqa: SIM905 - words
WHO = ("the owner", "the architect", "the inspector", "the neighbour", "the contractor")
CHAT = (
    "Let me look at that again.",
    "It rained the whole morning here.",
    "The office was rather full today.",
    "I will come back to this in a moment.",
    "Could you show me the list once more?",
    "Thanks, that helps.",
    "The second page of the form is hard to read.",
    "We have seen a few of these this month.",
)


def count(text: str) -> int:
    return -(-len(text.encode()) // 4)


def turn(number: int, chance: random.Random) -> tuple[str, str]:
    """(text, the fact in it or nothing)."""
    said = chance.sample(CHAT, 3)
    fact = ""
    if number % 7 == 3:
        thing, who = chance.choice(WHAT), chance.choice(WHO)
        fact = chance.choice(
            (
                f"We decided that the {thing} of case {1000 + number} goes to plan review.",
                f"The {thing} of case {1000 + number} must be inspected before {1 + number % 28} May.",
                f"{who.capitalize()} of case {1000 + number} agreed to change the {thing}.",
            )
        )
        said.insert(1, fact)
    return " ".join(said), fact


async def main(turns: int) -> None:
    chance = random.Random(11)
    pinned = [
        Part(f"rule {i}", f"Rule {i}: never promise a date, and name the source of what you say.") for i in range(4)
    ]
    items = [
        Part(f"mem_{i}", f"In a case like this, number {i}, a permit of the same kind was express.") for i in range(6)
    ]
    facts: list[str] = []
    everything = 0
    folding: list[float] = []
    assembling: list[float] = []
    print(f"budget {BUDGET} tokens; ms are medians so far\n")
    print("| turn | all | prompt | of it summary | left out | settled | fold ms | assemble ms |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        sessions = Sessions(Path(folder) / "sessions.sqlite3", count=count, budget=Budget(800, 300))
        sessions.open("ses_1", scope="person", at=0)
        largest = 0
        for number in range(1, turns + 1):
            text, fact = turn(number, chance)
            facts += [fact] if fact else []
            everything += count(text)
            sessions.add("ses_1", "clerk" if number % 2 else "assistant", text, at=number)
            began = time.perf_counter()
            if await fold(sessions, "ses_1") is not None:
                folding.append(time.perf_counter() - began)
            began = time.perf_counter()
            recent, summary = sessions.parts("ses_1")
            made = assemble(Parts(pinned=pinned, turns=recent, items=items, summary=summary), BUDGET, count)
            assembling.append(time.perf_counter() - began)
            largest = max(largest, made.used)
            if number in SHOWN:
                summed = sum(block.tokens for block in made.blocks if block.kind == "summary")
                kept = sum(fact in made.text for fact in facts)
                print(
                    f"| {number} | {everything} | {made.used} | {summed} | {len(made.left_out)}"
                    f" | {kept} of {len(facts)} | {_ms(folding)} | {_ms(assembling)} |"
                )
        sessions.close()
    print(f"\nlargest prompt {largest} tokens; folded {len(folding)} times in {turns} turns")


def _ms(seconds: list[float]) -> str:
    return f"{sorted(seconds)[len(seconds) // 2] * 1000:.1f}" if seconds else "-"


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
