"""The spec pages tell the truth: their examples are what the code writes, and no type, field or message is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from shared import limits, peering, proof, protocol
from shared.codec import b64, unb64
from shared.entries import FACTS, Draft, LogOpened, RunOpenedV1, write
from shared.keys import SigningKey, cosign_note
from shared.memory import KINDS, Edit, Item, item_id
from shared.memory.document import Document
from shared.memory.exchange import Exported, to_lines, to_markdown
from shared.memory.feed import Hold, Tombstone
from shared.memory.item import NAME_CHARS, PARTS, TEXT_CHARS
from shared.tlog import Checkpoint, Frontier, leaf_hash
from tests.shared import examples

SPEC = Path(protocol.__file__).parent / "spec"
KEY, HUB = SigningKey(b"k" * 32), SigningKey(b"h" * 32)
ITEM = Item(
    kind="decision",
    text="Replace the roof, same pitch",
    source="past.csv row 1",
    fields={"lane": "express"},
    tags=["roof"],
    confidence=900,
)

TOMBSTONE = Tombstone(examples.TMB, "item", "team/permits", examples.MEM, "", "", "", examples.AT, "mara", "asked")
HOLD = Hold("hld_1", "team/permits", examples.MEM, True, examples.AT, "otto", "court")
TICKET = examples.FOUND.peers[0].ticket
EXPORTED = Exported(item_id(ITEM), ITEM)

opened = write(Draft(LogOpened("city/dev_1", KEY.public.text, "agent 0.1.0")), 0, examples.AT, examples.salt)
run = examples.written(examples.example(RunOpenedV1), seq=1)


def checkpoint() -> str:
    tree = Frontier()
    tree.extend([leaf_hash(opened.data), leaf_hash(run.data)])
    note = Checkpoint("city/dev_1", 2, tree.root()).sign(KEY)
    return cosign_note(note, "city", HUB, examples.AT // 1_000_000).decode().rstrip("\n")


def proved() -> str:
    nodes = {(level, index): node for level, index, node in Frontier().extend(map(leaf_hash, (opened.data, run.data)))}
    note = f"{checkpoint()}\n".encode()
    return proof.make(opened.data, 0, lambda level, index: nodes[level, index], note, {}).decode().rstrip("\n")


def proof_extra() -> str:
    return unb64(proved().split("\n")[1].removeprefix("extra "), what="the example").decode()


def frame(kind: type[protocol.Message]) -> str:
    return protocol.encode(next(message for message in examples.MESSAGES if type(message) is kind))


def edited() -> Document:
    document = Document.create(ITEM, bytes(range(16)), at=1_750_000_000_250_000, by="user:ada")
    edit = Edit(text="Replace the roof, steeper pitch", fields={"lane": "standard"})
    document.edit(edit, at=1_750_000_001_250_000, by="run run_1")
    return document


def pretty(value: object) -> str:
    return json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)


def hello_bytes() -> str:
    hello = next(message for message in examples.MESSAGES if isinstance(message, protocol.Hello))
    return protocol.hello_bytes("city", examples.NONCE, hello).decode()


EXAMPLES: dict[str, dict[str, Callable[[], str]]] = {
    "log.md": {
        "first-entry": lambda: opened.data.decode(),
        "run-entry": lambda: run.data.decode(),
        "body": lambda: pretty(run.bodies["shared"]),
        "checkpoint": checkpoint,
        "proof": proved,
        "proof-extra": proof_extra,
    },
    "link.md": {
        "challenge": lambda: frame(protocol.Challenge),
        "hello": lambda: frame(protocol.Hello),
        "welcome": lambda: frame(protocol.Welcome),
        "batch": lambda: frame(protocol.Batch),
        "accepted": lambda: frame(protocol.Accepted),
        "notice": lambda: frame(protocol.Notice),
        "urgent": lambda: frame(protocol.Urgent),
        "pull": lambda: frame(protocol.Pull),
        "pulled": lambda: frame(protocol.Pulled),
        "status": lambda: frame(protocol.Status),
        "refusal": lambda: frame(protocol.Refusal),
        "remember": lambda: frame(protocol.Remember),
        "remembered": lambda: frame(protocol.Remembered),
        "recall": lambda: frame(protocol.Recall),
        "recalled": lambda: frame(protocol.Recalled),
        "forget": lambda: frame(protocol.Forget),
        "forgotten": lambda: frame(protocol.Forgotten),
        "tombstone": lambda: pretty(TOMBSTONE),
        "hold": lambda: pretty(HOLD),
        "hello-bytes": hello_bytes,
        "welcome-bytes": lambda: protocol.welcome_bytes("dev_1", examples.NONCE, 8, 3).decode(),
        "join": lambda: pretty(examples.JOIN),
        "joined": lambda: pretty(examples.JOINED),
        "wanted": lambda: pretty(examples.WANTED),
        "wanted-bytes": lambda: peering.wanted_bytes("city", examples.WANTED).decode(),
        "found": lambda: pretty(examples.FOUND),
        "asking-bytes": lambda: peering.asking_bytes(TICKET, "00" * 16, 0, limits.MODEL_CHUNK_BYTES).decode(),
        "answering-bytes": lambda: peering.answering_bytes(TICKET, "00" * 16, 0, limits.MODEL_CHUNK_BYTES).decode(),
    },
    "memory.md": {
        "item": lambda: pretty(ITEM),
        "document": lambda: b64(Document.create(ITEM, bytes(range(16)), at=0, by="").save()),
        "change": lambda: b64(edited().changes()[0]),
        "edit": lambda: b64(edited().changes()[1]),
        "lines": lambda: b"".join(to_lines([EXPORTED])).decode().rstrip("\n"),
        "markdown": lambda: "".join(to_markdown([EXPORTED])).rstrip("\n"),
    },
}


def page(name: str) -> str:
    return (SPEC / name).read_text()


def shown(name: str) -> dict[str, str]:
    """The examples of a page: a comment with the name, then a fenced block."""
    found = re.findall(r"<!-- example: ([a-z-]+) -->\n\n```[a-z]*\n(.*?)\n```", page(name), re.DOTALL)
    return dict(found)


def section(name: str, heading: str) -> str:
    """What stands under a heading, up to the next."""
    _, found, rest = page(name).partition(f"\n{heading}\n")
    assert found, f"{name} has no {heading!r}"
    return re.split(r"\n#", rest, maxsplit=1)[0]


def documented(text: str) -> list[str]:
    return re.findall(r"^\| `([a-z0-9_]+)` \|", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "example"), [(name, example) for name, found in EXAMPLES.items() for example in found]
)
def test_each_example_is_what_the_code_writes(name: str, example: str) -> None:
    assert shown(name)[example] == EXAMPLES[name][example]()


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_page_begins_with_an_example_and_shows_no_others(name: str) -> None:
    assert set(shown(name)) == set(EXAMPLES[name])
    assert page(name).index("<!-- example") < page(name).index("\n## ")
    assert "MUST" in page(name)


@pytest.mark.parametrize("key", FACTS, ids=lambda key: key[0])
def test_every_entry_type_and_field_is_documented(key: tuple[str, int]) -> None:
    text = section("log.md", f"### `{key[0]}` v{key[1]}")
    assert documented(text) == list(FACTS[key].__struct_fields__)


def test_no_entry_type_is_documented_that_is_not_there() -> None:
    named = re.findall(r"^### `([a-z.]+)` v(\d+)$", page("log.md"), re.MULTILINE)
    assert sorted((name, int(version)) for name, version in named) == sorted(FACTS)


MESSAGES = {str(kind.__struct_config__.tag): kind for kind in map(type, examples.MESSAGES)}


BESIDE = {"join": protocol.Join, "joined": protocol.Joined, "wanted": peering.Wanted, "found": peering.Found}


@pytest.mark.parametrize("tag", [*MESSAGES, *BESIDE])
def test_every_message_and_field_is_documented(tag: str) -> None:
    kind = {**MESSAGES, **BESIDE}[tag]
    assert documented(section("link.md", f"### `{tag}`")) == list(kind.__struct_fields__)


def test_the_history_of_versions_is_told() -> None:
    versions = re.findall(r"^\| (\d+) \| (\d{4}-\d\d-\d\d) \|", section("link.md", "## Versions"), re.MULTILINE)
    assert [int(version) for version, _ in versions] == list(range(1, protocol.PROTOCOL_VERSION + 1))
    for version, date in versions:
        assert re.search(rf"^ +{version} +{date} ", protocol.__doc__ or "", re.MULTILINE)


def test_every_field_and_kind_of_an_item_is_documented() -> None:
    text = section("memory.md", "## Fields")
    assert sorted(documented(text)) == sorted(Item.__struct_fields__)
    assert all(f"`{kind}`" in text for kind in KINDS)
    assert item_id(ITEM) in page("memory.md")
    assert all(version.hash in page("memory.md") for version in edited().history())


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("log.md", f"{limits.ENTRY_BYTES:,} bytes"),
        ("log.md", f"{limits.BODY_BYTES:,} bytes"),
        ("log.md", f"{limits.COMMIT_ENTRIES + 1} entries"),
        ("log.md", f"{limits.BATCH_BYTES // 2**20} MiB"),
        ("log.md", f"{limits.CLOCK_SKEW_SECONDS} seconds"),
        ("link.md", f"{limits.MESSAGE_BYTES:,} bytes"),
        ("link.md", f"1 to {limits.BATCH_ENTRIES} entries of at most {limits.BATCH_BYTES // 2**20} MiB"),
        ("link.md", f"within {limits.HANDSHAKE_SECONDS} seconds"),
        ("link.md", f"every {limits.HEARTBEAT_SECONDS} seconds"),
        ("link.md", f"good for {limits.PEER_TICKET_SECONDS} seconds"),
        ("link.md", f"at most {limits.PEERS_OFFERED} devices"),
        ("link.md", f"{limits.PEER_DOWNLOADS} downloads at once"),
        ("link.md", f"{limits.PEER_HEAD_BYTES:,} bytes"),
        ("link.md", f"{limits.PEER_LEAST_BYTES_S // 1024} KiB a second"),
        ("link.md", f"1 to {limits.MEMORY_BATCH} changes of at most {limits.MEMORY_BATCH_BYTES // 2**20} MiB"),
        ("link.md", f"{limits.MEMORY_RECORDS:,} records of at most {limits.MEMORY_BATCH_BYTES // 2**20} MiB"),
        ("memory.md", f"1 to {TEXT_CHARS:,} characters"),
        ("memory.md", f"{PARTS} of {NAME_CHARS:,} characters"),
    ],
)
def test_bounds_are_those_in_force(name: str, bound: str) -> None:
    assert bound in page(name)
