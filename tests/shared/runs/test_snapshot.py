"""A fold that is written down and read again: the same, or not read at all."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from shared import entries as e
from shared.codec import hex_sha256
from shared.runs import Device, Run, Step, fold_version, load, save
from shared.runs import device as devices
from shared.runs.fold import OF_RUNS
from tests.shared import examples
from tests.shared.one_step import ACTED, ASK, BROKE, DONE, LOST, PLAN, also
from tests.shared.runs.test_device import CHILD, KID, LONG, RUN, YES_TO_ALL, Log
from tests.shared.stories import opened


def whole() -> Log:
    """A device with something in every field. What is said of memory moves none of them."""
    log = Log()
    said = (facts for facts in examples.FACTS if not isinstance(facts, OF_RUNS))
    log.add(*(facts for facts in said if not e.type_of(facts)[0].startswith("memory.")))
    log.add(e.ModelTaken("embedder", "letters-9", "9" * 64, 9))  # after another of its kind
    log.add(examples.example(e.ModelRefused))
    log.add(opened(), PLAN, ASK, LONG, YES_TO_ALL, run=RUN)
    log.add(opened(), KID, *ACTED, *[also(one, step="zero") for one in (PLAN, ASK, LONG)], run="run_4")
    log.add(also(CHILD, parent="run_4"), run="run_child")
    log.add(opened(), also(KID, ref="run_6"), run="run_5")
    log.add(also(CHILD, parent="run_5"), BROKE, LOST, run="run_6")
    log.add(opened(), *ACTED, DONE, run="run_7")
    return log


def test_a_saved_fold_is_the_same_fold() -> None:
    log = whole()
    empty = [name for name in Device.__struct_fields__ if name != "closed" and not getattr(log.device, name)]
    assert empty == []
    found = load(save(log.device))
    assert found == log.device and found is not None
    assert list(found.events) == list(log.device.events), "in their order: the oldest is forgotten first"
    step = found.runs["run_4"].steps["zero"]
    assert isinstance(step.approval, e.ApprovalAsked) and step.approval.similar_s == 3600


@pytest.mark.parametrize("data", [b"", b"\x00", b"{}", b"\xc1", b"\x81\xa4size\xa1x", b"\xff" * 100])
def test_bytes_that_are_no_fold(data: bytes) -> None:
    assert load(data) is None


def test_a_fold_that_was_cut_short_is_none() -> None:
    data = save(whole().device)
    assert all(load(data[:end]) is None for end in range(0, len(data), 97))


def test_another_form_has_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    now = fold_version()
    assert fold_version() == now > 0
    more = msgspec.defstruct("Device", [("more", int, 0)], bases=(Device,))
    monkeypatch.setattr(devices, "Device", more)
    assert fold_version() != now
    monkeypatch.undo()
    monkeypatch.setattr(devices, "_MEANING", devices._MEANING + 1)
    assert fold_version() != now


def test_the_version_covers_what_stands_within() -> None:
    """A field that is added to a run, a step or a fact is another form."""
    schema = json.dumps(msgspec.json.schema(Device))
    for kind in (Run, Step, devices.Grant, devices.Spent, e.RunOpened, e.PlanMade, e.VerdictGiven, e.ApprovalAsked):
        assert all(f'"{name}"' in schema for name in kind.__struct_fields__), kind


def test_the_meaning_of_a_saved_fold_is_pinned() -> None:
    """If this fails, entries fold to something else than before. Then snapshots of earlier versions of this software
    must not be read: raise ``_MEANING`` in ``shared/runs/device.py`` and put both numbers below into the vector."""
    pinned = json.loads((Path(__file__).parents[2] / "vectors" / "fold.json").read_text())
    found = hex_sha256(msgspec.json.encode(whole().device, order="sorted"))
    assert {"meaning": devices._MEANING, "sha256": found} == pinned
