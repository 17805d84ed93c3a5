"""Memory: what goes in comes out, what is searched for is only ever words, and changes are seen across processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.memory import Memory, read_decisions
from edge_agent.vector import Embedding
from shared.errors import BadInput, Tampered, Unavailable
from shared.memory import Item, item_id


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    made = Memory(tmp_path / "memory.sqlite3")
    yield made
    made.close()


def decision(text: str, lane: str = "express", **more: object) -> Item:
    return Item(kind="decision", text=text, source=f"test {text}", fields={"lane": lane}, **more)  # type: ignore[arg-type]


ROOF = decision("Replace the shingles of the roof", tags=["roof", "express"], confidence=900, subject="PA-1")


def test_items_come_back_as_they_went_in(memory: Memory) -> None:
    assert memory.add([ROOF, decision("New deck")]) == (2, 0)
    assert memory.add([ROOF, decision("Shed"), ROOF]) == (1, 2)
    assert memory.count() == 3
    found = memory.get(item_id(ROOF))
    assert found == Item(**{**{f: getattr(ROOF, f) for f in ROOF.__struct_fields__}, "tags": ["express", "roof"]})
    with pytest.raises(BadInput) as caught:
        memory.get("mem_none")
    assert caught.value.code == "memory.unknown"


def test_one_bad_item_keeps_all_out(memory: Memory) -> None:
    with pytest.raises(BadInput) as caught:
        memory.add([ROOF, Item(kind="gossip", text="x", source="y")])
    assert caught.value.code == "memory.item"
    assert memory.count() == 0
    assert memory.search("shingles") == []
    assert memory.add([ROOF]) == (1, 0)


def test_search_finds_words_and_their_forms(memory: Memory) -> None:
    memory.add([ROOF, decision("New deck behind the house"), decision("Roofing and a deck")])
    assert [kept.text for kept in memory.search("roofs")] == ["Roofing and a deck", "Replace the shingles of the roof"]
    assert memory.search("DECK", limit=1)[0].label == "express"
    assert memory.search("the of a") == []
    assert memory.search("zoo") == []


@pytest.mark.parametrize(
    "query",
    ["", "   ", '"', "'", '" OR 1', "roof AND", "NEAR(", "text:roof", "id:mem", "roof*", "^roof", "-", "(", "a" * 5000,
     "\x00roof", "roof\x00", "\ud83c", "½ ² ٣", "'; DROP TABLE item; --", "{roof} : x", "rank", "_", "__ __", "🙂"],
)  # fmt: skip
def test_anything_may_be_typed_into_a_search(memory: Memory, query: str) -> None:
    memory.add([ROOF])
    assert isinstance(memory.search(query), list)
    assert memory.count() == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(query=st.text(max_size=60))
def test_no_text_breaks_search(memory: Memory, query: str) -> None:
    assert memory.search(query) == []


def test_recall_keeps_to_kind_scope_and_time(memory: Memory) -> None:
    memory.add(
        [
            decision("mine"),
            decision("everybody's", scope="device"),
            decision("another team's", scope="team/parks"),
            decision("old", expires_at=100),
            decision("current", expires_at=101),
            Item(kind="note", text="a note", source="t"),
        ]
    )
    assert sorted(kept.text for kept in memory.recall(["decision"], "person", "m", 100)) == [
        "current",
        "everybody's",
        "mine",
    ]
    assert sorted(kept.text for kept in memory.recall(["decision", "note"], "team/parks", "m", 0)) == [
        "another team's",
        "everybody's",
    ]
    assert memory.recall([], "person", "m", 0) == []
    assert [kept.text for kept in memory.items(kinds=["note"])] == ["a note"]
    assert len(memory.items(limit=2)) == 2


def test_vectors_belong_to_the_model_that_made_them(memory: Memory) -> None:
    memory.add([ROOF, decision("New deck")])
    missing = memory.without_vector("one", 10)
    assert {name for name, _ in missing} == {item_id(ROOF), item_id(decision("New deck"))}
    memory.put_vectors("one", [(name, Embedding(bytes([1] * 8), 127)) for name, _ in missing])
    assert memory.without_vector("one", 10) == []
    assert all(
        kept.vector == Embedding(bytes([1] * 8), 127) for kept in memory.recall(["decision"], "person", "one", 0)
    )
    assert all(kept.vector is None for kept in memory.recall(["decision"], "person", "two", 0))
    assert len(memory.without_vector("two", 1)) == 1
    memory.put_vectors("two", [(item_id(ROOF), Embedding(b"\x02" * 8, 1))])
    found = {kept.text: kept.vector for kept in memory.recall(["decision"], "person", "two", 0)}
    assert found[ROOF.text] is not None and found["New deck"] is None
    assert [name for name, _ in memory.without_vector("one", 10)] == [item_id(ROOF)]


OTHER = (
    "import sys; from pathlib import Path; from edge_agent.memory import Memory; from shared.memory import Item;"
    "m = Memory(Path(sys.argv[1])); print(m.add([Item(kind='note', text='from elsewhere', source='x')])); m.close()"
)


@pytest.mark.system
def test_version_sees_changes_of_this_process_and_another(memory: Memory, tmp_path: Path) -> None:
    seen = [memory.version]
    memory.search("roof")
    assert memory.version == seen[0]
    memory.add([ROOF])
    seen.append(memory.version)
    subprocess.run([sys.executable, "-c", OTHER, str(tmp_path / "memory.sqlite3")], check=True, capture_output=True)
    seen.append(memory.version)
    assert seen == sorted(set(seen)) and len(seen) == 3
    assert memory.search("elsewhere")[0].kind == "note"


def test_threads_may_share_it(memory: Memory) -> None:
    errors: list[Exception] = []

    def work(name: int) -> None:
        try:
            for number in range(10):
                memory.add([decision(f"case {name} {number}")])
                memory.search("case")
        except Exception as error:  # noqa: BLE001 - what a thread raises would be lost
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert memory.count() == 40


def test_an_item_changed_on_disk_is_noticed(memory: Memory, tmp_path: Path) -> None:
    memory.add([ROOF])
    with sqlite3.connect(tmp_path / "memory.sqlite3") as db:
        db.execute("UPDATE chunk SET data = CAST(x'00' AS BLOB)")
    db.close()
    with pytest.raises(Tampered) as caught:
        memory.get(item_id(ROOF))
    assert caught.value.code == "memory.document"


def test_a_file_that_is_no_memory(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("hello " * 100)
    with pytest.raises(Unavailable) as caught:
        Memory(tmp_path / "m")
    assert caught.value.code == "memory.storage"


def test_it_is_the_same_memory_after_a_restart(memory: Memory, tmp_path: Path) -> None:
    memory.add([ROOF])
    again = Memory(tmp_path / "memory.sqlite3")
    assert again.add([ROOF]) == (0, 1)
    assert again.get(item_id(ROOF)).text == ROOF.text
    again.close()


# --- importing past decisions -------------------------------------------------------------------------------------


def test_decisions_are_read_with_what_is_known_of_them() -> None:
    data = (
        b"\xef\xbb\xbfdescription,lane,reason,decided_by,decided_on,other\n"
        b"New roof,express,same size,mara,2026-11-02,x\nDeck,review,,,last summer,\n"
    )
    first, second = read_decisions(data, "past.csv", "person")
    assert first == Item(
        kind="decision",
        text="New roof",
        source="past.csv row 1",
        fields={"lane": "express", "reason": "same size", "decided_by": "mara", "decided_on": "2026-11-02"},
        valid_from=1_793_577_600_000_000,  # the day begins, UTC: what it is aged from
    )
    assert (second.fields, second.valid_from) == ({"lane": "review", "decided_on": "last summer"}, 0)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"", "past.csv"),
        (b"description,lane\n", "past.csv"),
        (b"text,lane\na,b\n", "past.csv"),
        (b"description\na\n", "past.csv"),
        (b"description,lane\na,b\n,c\n", "past.csv row 2"),
        (b"description,lane\na,b\nc\n", "past.csv row 2"),
        (b"description,lane\ncaf\xe9,b\n", "past.csv"),
        (b'description,lane\n"a,b\n', "past.csv"),
        ("description,lane\na,b\n".encode("utf-16"), "past.csv"),
        (b"description,lane\n" + b"x" * 100_001 + b",b\n", "past.csv row 1"),
        (b"description,lane\na\x00b,c\n", "past.csv row 1"),
    ],
)
def test_bad_imports_name_the_row(memory: Memory, data: bytes, where: str) -> None:
    with pytest.raises(BadInput) as caught:
        memory.add(read_decisions(data, "past.csv", "person"))
    assert caught.value.code == "memory.import"
    assert caught.value.where == where
    assert caught.value.advice
    assert memory.count() == 0
