"""The exact bytes of every entry type, pinned: they are hashed and signed, and must read the same for years."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import limits
from shared.entries import (
    FACTS,
    Body,
    ContextRecalled,
    Draft,
    Entry,
    Facts,
    ItemRef,
    RunOpenedV1,
    SourceRefused,
    Switch,
    check_body,
    read,
    type_of,
    write,
)
from shared.errors import BadInput, Conflict, Tampered
from tests.shared import examples

VECTORS: dict[str, str] = json.loads((Path(__file__).parents[1] / "vectors" / "entries.json").read_text())
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Facts of any content, by the types of their fields."""
    if kind is str:
        return TEXT
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(-(2**53), 2**53)
    if kind == list[str]:
        return st.lists(TEXT, max_size=4)
    if kind == dict[str, int]:
        return st.dictionaries(TEXT, st.integers(-(2**53), 2**53), max_size=4)
    if kind == dict[str, str]:
        return st.dictionaries(TEXT, TEXT, max_size=4)
    if kind == list[ItemRef]:
        return st.lists(st.builds(ItemRef, id=TEXT, sha256=TEXT), max_size=3)
    if kind == list[Switch]:
        switch = st.builds(Switch, TEXT, TEXT, TEXT, TEXT, st.integers(-(2**53), 2**53), TEXT)
        return st.lists(switch, max_size=3)
    if kind == dict[str, int | bool | str]:
        return st.dictionaries(TEXT, st.booleans() | st.integers(-(2**53), 2**53) | TEXT, max_size=4)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is list:
        return st.lists(values(get_args(kind)[0]), max_size=3)
    if issubclass(kind, msgspec.Struct):
        return st.builds(kind, **{field.name: values(field.type) for field in msgspec.structs.fields(kind)})
    raise AssertionError(f"no strategy for {kind}")


def facts_of(kind: type[Facts]) -> st.SearchStrategy[Facts]:
    fields = {field.name: values(field.type) for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **fields)


def test_there_is_a_vector_for_every_type() -> None:
    assert [type_of(facts) for facts in examples.FACTS] == list(FACTS)
    assert list(VECTORS) == [f"{name} v{version}" for name, version in FACTS]


@pytest.mark.parametrize("facts", examples.FACTS, ids=lambda facts: " v".join(map(str, type_of(facts))))
def test_bytes_are_pinned(facts: Facts) -> None:
    name, version = type_of(facts)
    written = examples.written(facts)
    assert written.data.decode() == VECTORS[f"{name} v{version}"]
    assert read(written.data) == written.entry


@settings(max_examples=300)
@given(
    facts=st.sampled_from(list(FACTS.values())).flatmap(facts_of),
    run=TEXT,
    seq=st.integers(0, 2**53),
    at=st.integers(0, 2**53),
    body=st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
)
def test_round_trip(facts: Facts, run: str, seq: int, at: int, body: dict[str, str] | None) -> None:
    written = write(Draft(facts, run, {} if body is None else {"shared": body}), seq, at, examples.salt)
    entry = read(written.data)
    assert entry == written.entry == Entry(seq, at, *type_of(facts), run, facts, entry.bodies)
    for name, kept in written.bodies.items():
        check_body(entry, name, kept)
        assert json.loads(kept.data) == body


def changed(**changes: Any) -> bytes:
    whole = json.loads(VECTORS["source.refused v1"])
    whole.update(changes)
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (changed(type="source.eaten"), "entry.unknown"),
        (changed(v=2), "entry.unknown"),
        (changed(v=0), "entry.unknown"),
        (changed(extra=1), "entry.form"),
        (changed(facts={"sha256": "x", "code": "y", "more": 1}), "entry.form"),
        (changed(facts={"sha256": "x"}), "entry.form"),
        (changed(facts={"sha256": "x", "code": 1}), "entry.form"),
        (changed(facts=[]), "entry.form"),
        (changed(seq="7"), "entry.form"),
        (changed(seq=7.0), "entry.form"),
        (changed(seq=True), "entry.form"),
        (changed(bodies={"shared": 1}), "entry.form"),
        (changed() + b"\n", "entry.form"),
        (b" " + changed(), "entry.form"),
        (changed().replace(b'"at"', b'"\\u0061t"'), "entry.form"),
        (changed().replace(b'{"at"', b'{"seq":1,"at"'), "entry.form"),
        (changed().replace(b"{", b"{ ", 1), "entry.form"),
        (json.dumps(dict(reversed(json.loads(changed()).items())), separators=(",", ":")).encode(), "entry.form"),
        (b"", "entry.form"),
        (b"null", "entry.form"),
        (b"\xff", "entry.form"),
        (b"[" * 50_000, "entry.form"),
    ],
)
def test_other_bytes_are_refused(data: bytes, code: str) -> None:
    read(changed())  # the test's own writer is canonical
    with pytest.raises(BadInput) as caught:
        read(data)
    assert caught.value.code == code


@given(st.binary(max_size=300))
def test_no_bytes_leak_another_error(data: bytes) -> None:
    with pytest.raises(BadInput):
        read(data)


# --- bodies ------------------------------------------------------------------------------------------------------


def opened() -> Any:
    return examples.written(examples.example(RunOpenedV1))


def test_a_body_is_bound_by_its_salt_and_bytes() -> None:
    written = opened()
    shared = written.bodies["shared"]
    check_body(written.entry, "shared", shared)
    for wrong in (
        Body(shared.salt, shared.data + " "),
        Body("ff" * 32, shared.data),
        Body("", shared.data),
        Body("zz" * 32, shared.data),
        Body("00", shared.data),
        written.bodies["private"],
    ):
        with pytest.raises(Tampered) as caught:
            check_body(written.entry, "shared", wrong)
        assert caught.value.code == "body.hash"
        assert caught.value.advice
    with pytest.raises(Tampered):
        check_body(written.entry, "public", shared)


def test_an_entry_stands_without_its_bodies() -> None:
    written = opened()
    assert set(read(written.data).bodies) == {"shared", "private"}
    assert b"555-0100" not in written.data and b"PA-2026" not in written.data


def test_the_same_body_twice_has_two_hashes() -> None:
    salts = iter(bytes([n]) * 32 for n in range(9))
    draft = Draft(SourceRefused("00", "x"), bodies={"shared": {"a": 1}})
    first, second = (write(draft, 0, 0, lambda _: next(salts)) for _ in range(2))
    assert first.entry.bodies != second.entry.bodies


def test_only_two_bodies_have_names() -> None:
    with pytest.raises(BadInput) as caught:
        write(Draft(SourceRefused("00", "x"), bodies={"public": {}}), 0, 0, examples.salt)
    assert caught.value.code == "entry.body"


# --- bounds ------------------------------------------------------------------------------------------------------


def test_bounds_of_entry_and_body() -> None:
    spare = limits.ENTRY_BYTES - len(write(Draft(SourceRefused("00", "")), 0, 0, examples.salt).data)
    assert len(write(Draft(SourceRefused("00", "x" * spare)), 0, 0, examples.salt).data) == limits.ENTRY_BYTES
    with pytest.raises(BadInput) as caught:
        write(Draft(SourceRefused("00", "x" * (spare + 1))), 0, 0, examples.salt)
    assert caught.value.code == "entry.too-large"
    with pytest.raises(BadInput) as caught:
        write(Draft(ContextRecalled("s", [ItemRef("i", "x")] * 2000, 1)), 0, 0, examples.salt)
    assert caught.value.code == "entry.too-large"
    body = "x" * (limits.BODY_BYTES - 2)
    written = write(Draft(SourceRefused("00", "x"), bodies={"shared": body}), 0, 0, examples.salt)
    assert len(written.bodies["shared"].data) == limits.BODY_BYTES
    with pytest.raises(BadInput) as caught:
        write(Draft(SourceRefused("00", "x"), bodies={"shared": body + "x"}), 0, 0, examples.salt)
    assert caught.value.code == "entry.too-large"


def test_a_deadline_is_kept() -> None:
    draft = Draft(SourceRefused("00", "x"), not_after=100)
    assert write(draft, 0, 100, examples.salt).entry.at == 100
    with pytest.raises(Conflict) as caught:
        write(draft, 0, 101, examples.salt)
    assert caught.value.code == "entry.late"
