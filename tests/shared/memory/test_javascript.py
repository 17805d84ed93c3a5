"""The same item in ``@automerge/automerge``: it reads our document, we read its edit, and both merge to the same."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from shared.codec import b64, unb64
from shared.memory import Edit, Item
from shared.memory.document import Document
from shared.memory.screen import screen
from tests import npm
from tests.shared.memory.documents import ADA, AT, BOB

ITEM = Item(
    kind="decision",
    text="The desk opens at nine.",
    source="test",
    fields={"lane": "express"},
    tags=["roof"],
    confidence=900,
)
TIME = 1_795_358_544


def test_javascript_reads_and_edits_an_item(tmp_path: Path) -> None:
    ours = Document.create(ITEM, ADA, at=AT, by="user:ada")
    saved = ours.save()
    mine = ours.edit(Edit(text="The desk opens at ten.", kind="fact", fields={"lane": "a"}), at=AT + 1, by="run run_1")
    assert mine
    theirs = peer(tmp_path, {"saved": b64(saved), "actor": BOB.hex(), "time": TIME, "later": b64(mine)})

    assert theirs["read"] == {
        "kind": "decision",
        "immutable": True,
        "text": ITEM.text,
        "tags": ["roof"],
        "confidence": 900,
    }
    (first,) = theirs["history"]
    assert (first["time"], first["message"]) == (AT // 1_000_000, "user:ada .250000")
    assert first["hash"] == ours.history()[0].hash

    (chunk,) = [unb64(change, what="a change") for change in theirs["changes"]]
    assert screen(chunk).time == TIME
    edited = Document.load([saved, chunk])
    assert edited.item() == Item(
        kind="decision",
        text="The front 😀 desk opens at nine.",
        source="test",
        subject="the desk",
        fields={"lane": "slow", "why": "old"},
        tags=["hours"],
        confidence=700,
    )
    assert (edited.history()[1].at, edited.history()[1].by) == (TIME * 1_000_000, "")

    merged = ours.merge([chunk])
    (conflict,) = merged.conflicts()
    assert conflict.field == "fields/lane" and {value for value, _, _ in conflict.values} == {"a", "slow"}
    assert theirs["merged"] == {
        "kind": merged.item().kind,
        "text": merged.item().text,
        "lane": merged.item().fields["lane"],
        "conflicts": ["a", "slow"],
    }
    whole = Document.load([unb64(theirs["saved"], what="a document")])
    assert (whole.item(), whole.heads(), whole.conflicts()) == (merged.item(), merged.heads(), [conflict])
    assert merged.item().text == "The front 😀 desk opens at ten."


def peer(folder: Path, task: dict[str, Any]) -> dict[str, Any]:
    command = npm.script(Path(__file__).parent / "item_peer.mjs", folder)
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
