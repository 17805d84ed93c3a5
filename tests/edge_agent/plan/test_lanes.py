from __future__ import annotations

import math
import subprocess
import sys
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.plan.lanes import LEAST_CASES, LaneModel, PastCase
from edge_agent.vector import Embedding
from shared.errors import BadInput
from tests.edge_agent.plan.kit import memory, past, vector

MODEL = memory()
WINDOWS = "Replace eleven windows in the same openings, no lintel work"


@pytest.mark.parametrize("vectors", [False, True])
def test_precedents_decide_and_are_named(vectors: bool) -> None:
    model = memory(vectors=vectors)
    seen = model.predict(WINDOWS, vector(WINDOWS) if vectors else None)
    assert seen.lane == "express"
    assert seen.confidence >= 850
    assert not seen.unlike
    assert "windows" in seen.neighbours[0].text
    known = {case.item_id: case.item_sha256 for case in past()}
    assert all(known[near.item_id] == near.item_sha256 for near in seen.neighbours)


def test_shared_words_stand_in_both_texts() -> None:
    near = MODEL.predict(WINDOWS).neighbours[0]
    assert near.shared
    assert all(word in near.text.casefold() and word in WINDOWS.casefold() for word in near.shared)


def test_order_and_repetition_of_cases_do_not_matter() -> None:
    cases = past()
    again = LaneModel.fit([*cases[::-1], *cases])
    for text in (WINDOWS, "lit letters on the wall", "elevator cab"):
        assert again.predict(text) == MODEL.predict(text)


def test_the_same_decision_many_times_counts_once() -> None:
    copies = [PastCase(f"copy-{n}", "0" * 64, "Wash the facade", "sign") for n in range(500)]
    model = LaneModel.fit([*past(), *copies])
    assert model.size == MODEL.size + 1
    assert model.predict(WINDOWS).lane == "express"


def test_the_same_words_decided_two_ways_are_not_sure() -> None:
    twins = [PastCase("twin-a", "0" * 64, "Wash the facade", lane) for lane in ("sign", "express")]
    seen = LaneModel.fit([*past(), *twins]).predict("Wash the facade")
    assert seen.confidence < 850


@pytest.mark.parametrize(
    "cases",
    [[], past()[: LEAST_CASES - 1], [case for case in past() if case.lane == "express"]],
    ids=["empty", "too few", "one lane"],
)
def test_too_little_memory_settles_nothing(cases: list[PastCase]) -> None:
    model = LaneModel.fit(cases)
    seen = model.predict(WINDOWS)
    assert (seen.lane, seen.confidence, seen.neighbours, seen.unlike) == ("", 0, [], True)
    assert model.expected(850) == (0, 0)


def test_too_little_memory_does_not_load_numpy() -> None:
    code = (
        "import sys; from edge_agent.plan.lanes import LaneModel, PastCase;"
        "LaneModel.fit([PastCase('a', '0' * 64, 'reroof a garage', 'express')]).predict('reroof a house');"
        "assert not {'numpy', 'onnxruntime'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", ["zebra quokka xylophone", "¿¡☃", "12345"])
def test_what_is_unlike_memory_is_said_to_be(text: str) -> None:
    seen = MODEL.predict(text)
    assert seen.unlike
    assert seen.confidence < 850


def test_what_it_expects_of_itself_is_what_calibration_says() -> None:
    share, agrees = MODEL.expected(850)
    assert 200 <= share <= 1000
    assert agrees >= 900
    assert MODEL.expected(1000) == (0, 0)


def test_vectors_that_do_not_fit_are_refused() -> None:
    short = Embedding(b"\1\2", 1)
    with pytest.raises(BadInput, match="length") as caught:
        memory(vectors=True).predict(WINDOWS, short)
    assert caught.value.code == "plan.vectors"
    with pytest.raises(BadInput, match="lengths"):
        LaneModel.fit([msgspec.structs.replace(past()[0], vector=short), *past(vectors=True)[1:]])


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300))
def test_any_text_gets_a_bounded_answer(text: str) -> None:
    seen = MODEL.predict(text)
    assert 0 <= seen.confidence <= 1000
    assert len(seen.neighbours) == 12
    assert all(0 <= near.similarity <= 1000 for near in seen.neighbours)
    assert math.isclose(seen.neighbours[0].similarity, max(near.similarity for near in seen.neighbours))
    assert seen == MODEL.predict(text)


def test_shouting_gains_little() -> None:
    text = "Wreck and remove a frame house"
    shouted = MODEL.predict(text + " channel letters awning sign" * 300)
    assert dict(shouted.lanes).get("sign", 0) < 1000
    assert shouted.confidence <= MODEL.predict(text).confidence


def test_thousands_of_cases_are_fitted_quickly() -> None:
    lanes = ("express", "sign", "plan_review")
    cases = [
        PastCase(f"c{n:05}", "0" * 64, f"work{n % 97} on part{n % 89} near gate{n % 83} for use{n % 7}", lanes[n % 3])
        for n in range(2500)
    ]
    began = time.process_time()
    LaneModel.fit([msgspec.structs.replace(case, vector=vector(case.text)) for case in cases])
    assert time.process_time() - began < 5  # 0.6 s on an idle machine
