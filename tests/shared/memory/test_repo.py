"""The wire of automerge-repo, read in pure Python: what it takes, and what it refuses before it costs anything."""

from __future__ import annotations

import random
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import limits
from shared.errors import BadInput, OutriderError, Refused
from shared.memory.repo import bloom, cbor, leb, messages, names, sync
from shared.memory.repo.bloom import Bloom
from shared.memory.repo.peer import History, Node, Peer
from shared.memory.repo.sync import Have, Message

HASH = "ab" * 32


# --- CBOR ---------------------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
    | st.binary(max_size=300)
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=5),
    max_leaves=12,
)


@given(PLAIN)
def test_what_is_written_reads_back(value: Any) -> None:
    try:
        assert cbor.decode(cbor.encode(value)) == value
    except BadInput as error:
        assert "within each other" in error.message


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("b900016474797065646a6f696e", {"type": "join"}),  # as cbor-x writes: the length in two bytes
        ("f7", None),
        ("f93e00", 1.5),
        ("fb41d9c1b2a4000000", struct.unpack(">d", bytes.fromhex("41d9c1b2a4000000"))[0]),
        ("1bffffffffffffffff", 2**64 - 1),
        ("3818", -25),
        ("8201820203", [1, [2, 3]]),
    ],
)
def test_forms_that_clients_send(data: str, value: object) -> None:
    assert cbor.decode(bytes.fromhex(data)) == value


@pytest.mark.parametrize(
    "data",
    [
        "",
        "1c",  # a reserved length
        "5f4100ff",  # without a length
        "9bffffffffffffffff",  # 2^64 - 1 values
        "bb7fffffffffffffff",
        "5bffffffffffffffff00",
        "7affffffff",
        "62c328",  # not UTF-8
        "a10102",  # a key that is a number
        "a2616101616102",  # a key twice
        "c11a514b67b0",  # a date
        "d81c80d81d00",  # shared references
        "f8ff",  # an unknown simple value
        "0000",  # two values
        "81" * 60 + "00",
        "9a00010000" + "00" * 65536,
    ],
)
def test_other_cbor_is_refused_cheaply(data: str) -> None:
    raw = bytes.fromhex(data)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="repo.cbor"):
            cbor.decode(raw)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_message_has_a_largest_size() -> None:
    with pytest.raises(BadInput, match="too large"):
        cbor.decode(cbor.encode(bytes(limits.REPO_MESSAGE_BYTES)))


@given(st.binary(max_size=200))
def test_noise_is_refused_with_an_error_of_ours(data: bytes) -> None:
    for read in (cbor.decode, messages.decode, sync.parse, bloom.parse):
        try:
            read(data)
        except OutriderError as error:
            assert error.code.startswith("repo.")


# --- messages -----------------------------------------------------------------------------------------------------


def test_messages_of_clients() -> None:
    join = {"type": "join", "senderId": "p1", "peerMetadata": {}, "supportedProtocolVersions": ["1"]}
    assert messages.decode(cbor.encode(join)) == messages.Join("p1")
    request = {"type": "request", "senderId": "p1", "targetId": "h", "documentId": "d", "data": b"B"}
    assert messages.decode(cbor.encode(request)) == messages.Sync("p1", "d", b"B")
    gone = {"type": "doc-unavailable", "senderId": "p1", "targetId": "h", "documentId": "d"}
    assert messages.decode(cbor.encode(gone)) == messages.Unavailable("p1", "d")
    assert messages.decode(cbor.encode({"type": "leave"})) == messages.Leave()
    assert messages.decode(cbor.encode({"type": "ephemeral", "data": b"x"})) == messages.Passed()


@pytest.mark.parametrize(
    "said",
    [
        [],
        {"senderId": "p1"},
        {"type": 5},
        {"type": "join"},
        {"type": "join", "senderId": ""},
        {"type": "join", "senderId": "p" * 300},
        {"type": "sync", "senderId": "p1", "documentId": "d", "data": "text"},
        {"type": "sync", "senderId": "p1", "documentId": 7, "data": b""},
    ],
)
def test_messages_that_say_nothing(said: Any) -> None:
    with pytest.raises(BadInput, match="repo.message"):
        messages.decode(cbor.encode(said))


def test_a_client_of_another_version_is_refused() -> None:
    with pytest.raises(Refused, match="repo.version"):
        messages.decode(cbor.encode({"type": "join", "senderId": "p1", "supportedProtocolVersions": ["2"]}))


def test_messages_of_the_hub() -> None:
    said = cbor.decode(messages.peer("hub", "p1"))
    assert (said["type"], said["selectedProtocolVersion"], said["peerMetadata"]) == ("peer", "1", {"isEphemeral": True})
    assert cbor.decode(messages.sync("hub", "p1", "d", b"B"))["data"] == b"B"
    assert cbor.decode(messages.error("hub", "p1", "no"))["message"] == "no"
    assert cbor.decode(messages.unavailable("hub", "p1", "d"))["documentId"] == "d"


# --- names --------------------------------------------------------------------------------------------------------


def test_an_item_names_a_document() -> None:
    """The ids are those that ``bs58check`` of automerge-repo gives for the same 16 bytes."""
    assert names.document_url("mem_0123456789abcdef01234567") == "automerge:2XPyuRn934A2fxS4NXSxpMtNRn1b"
    many = {names.document_id(f"mem_{random.Random(seed).randbytes(12).hex()}") for seed in range(50)}
    assert len(many) == 50


@pytest.mark.parametrize("name", ["", "mem_0123", "mem_zz", "run_0123456789abcdef01234567"])
def test_what_names_no_item(name: str) -> None:
    with pytest.raises(BadInput, match="repo.document"):
        names.document_id(name)


# --- sync messages ------------------------------------------------------------------------------------------------


def chunk(kind: int = 1, body: bytes = b"xyz") -> bytes:
    return b"\x85\x6f\x4a\x83" + b"sum!" + bytes([kind]) + leb.write(len(body)) + body


def test_a_sync_message_reads_back() -> None:
    message = Message(
        heads=(HASH,),
        need=(HASH, "cd" * 32),
        have=(Have((HASH,), Bloom.of([HASH])), Have()),
        changes=(chunk(), chunk(2, bytes(300))),
    )
    assert sync.parse(sync.encode(message)) == message
    assert sync.parse(sync.encode(message) + b"\x02\x02\x87") == Message(
        message.heads, message.need, message.have, message.changes, read_only=True, reset=True
    )


def test_several_changes_in_one_field_are_taken_apart() -> None:
    joined = chunk() + chunk(2)
    data = b"\x43\x00\x00\x00\x01" + leb.write(len(joined)) + joined
    assert sync.parse(data).changes == (chunk(), chunk(2))


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("nothing", b""),
        ("another type", b"\x44\x00\x00\x00\x00"),
        ("cut off", b"\x42\x00\x00"),
        ("17 GB of hashes", b"\x42" + leb.write(2**29) + bytes(20)),
        ("a count of 63 bits", b"\x42" + b"\xff" * 8 + b"\x7f"),
        ("a count without an end", b"\x42" + b"\xff" * 40),
        ("a count with needless bytes", b"\x42\x80\x00\x00\x00\x00"),
        ("many filters", b"\x42\x00\x00" + leb.write(2**20)),
        ("probes without end", b"\x42\x00\x00\x01\x00\x08" + leb.write(1) + leb.write(8) + leb.write(2**32 - 1) + b"x"),
        ("a filter without bits", b"\x42\x00\x00\x01\x00\x04" + b"\x01\x00\x07\x00"),
        ("a filter of 2^32 entries", b"\x42\x00\x00\x01\x00\x07" + leb.write(2**32 - 1) + b"\x0a\x07"),
        ("many changes", b"\x42\x00\x00\x00" + leb.write(2**30)),
        ("a whole document", b"\x43\x00\x00\x00\x01\x0d" + chunk(0)),
        ("no chunk", b"\x42\x00\x00\x00\x01\x03abc"),
        ("a chunk that is cut off", b"\x42\x00\x00\x00\x01\x0c" + chunk()[:-1]),
        ("something behind", b"\x42\x00\x00\x00\x00\x00\x00"),
    ],
)
def test_hostile_sync_messages_are_refused_cheaply(what: str, data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="repo.sync"):
            sync.parse(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000, what
    finally:
        tracemalloc.stop()


def test_mutants_of_a_message_read_or_are_refused() -> None:
    rng = random.Random(9)
    have = Have((HASH,), Bloom.of(f"{number:064x}" for number in range(9)))
    good = sync.encode(Message((HASH,), (HASH,), (have,), (chunk(), chunk(2)))) + b"\x02\x02\x84"
    read = 0
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(len(bad))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        try:
            message = sync.parse(bytes(bad[: rng.choice((len(bad), rng.randrange(len(bad))))]))
        except BadInput as error:
            assert error.code == "repo.sync"
        else:
            read += 1
            again = sync.parse(sync.encode(message))
            assert (again.heads, again.need, again.have) == (message.heads, message.need, message.have)
    assert 0 < read < 3000


def test_as_many_changes_as_may_be_and_no_more() -> None:
    joined = chunk() * (limits.REPO_CHANGES + 1)
    with pytest.raises(BadInput, match="too many changes"):
        sync.parse(b"\x42\x00\x00\x00\x01" + leb.write(len(joined)) + joined)


@given(st.sets(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=40), st.binary(min_size=32, max_size=32))
def test_a_filter_never_forgets(hashes: set[str], other: bytes) -> None:
    made = Bloom.of(hashes)
    assert bloom.parse(made.encode()) == made
    assert all(made.has(hash_) for hash_ in hashes)
    assert not (Bloom().has(other.hex()))


# --- histories and peers ------------------------------------------------------------------------------------------


def graph(rng: random.Random, count: int) -> list[Node]:
    nodes: list[Node] = []
    for number in range(count):
        parents = {node.hash for node in rng.sample(nodes[-6:], min(len(nodes[-6:]), rng.randint(1, 3)))}
        nodes.append(Node(rng.randbytes(32).hex(), tuple(sorted(parents)), b"%d" % number))
    return nodes


@pytest.mark.parametrize("seed", range(8))
def test_two_sides_converge_whatever_each_has(seed: int) -> None:
    rng = random.Random(seed)
    nodes = graph(rng, 120)
    by_chunk = {node.chunk: node for node in nodes}

    def some() -> History:
        full = History(nodes[:])
        heads = [rng.choice(nodes).hash for _ in range(rng.randint(0, 3))]
        return History([full[hash_] for hash_ in full.since(()) if hash_ in full.ancestors(heads)])

    for _ in range(30):
        sides = [some(), some()]
        wanted = set(sides[0].since(())) | set(sides[1].since(()))
        peers = [Peer(side) for side in sides]
        silent = turns = 0
        while silent < 2:
            mine = turns % 2
            said = peers[mine].next()
            silent = 0 if said else silent + 1
            turns += 1
            assert turns < 40
            if said is not None:
                other = 1 - mine
                for node in peers[other].fresh(by_chunk[chunk_] for chunk_ in said.changes):
                    sides[other].add(node)
                peers[other].received(said)
        assert [set(side.since(())) for side in sides] == [wanted, wanted] and sides[0].heads == sides[1].heads


def test_a_history_takes_changes_in_any_order() -> None:
    rng = random.Random(7)
    nodes = graph(rng, 60)
    shuffled = nodes[:]
    rng.shuffle(shuffled)
    assert History(shuffled).heads == History(nodes).heads
    assert len(History(shuffled)) == 60 and len(History(nodes[1:])) < 60


def test_what_waits_is_bounded() -> None:
    peer = Peer(History())
    lost = ("00" * 32,)
    peer.fresh(Node(f"{number:064x}", lost, b"x") for number in range(1, limits.REPO_PENDING + 1))
    with pytest.raises(Refused, match="repo.pending"):
        peer.fresh([Node("f" * 64, lost, b"x")])
    with pytest.raises(Refused, match="repo.pending"):
        Peer(History()).fresh([Node("f" * 64, lost, bytes(limits.REPO_PENDING_BYTES + 1))])


def test_a_reader_is_sent_nothing_it_would_not_take() -> None:
    nodes = graph(random.Random(3), 5)
    peer = Peer(History(nodes))
    peer.received(Message(have=(Have(),), read_only=True))
    said = peer.next()
    assert said is not None and said.changes == ()
