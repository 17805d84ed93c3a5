"""Exhaustive for every tree up to 70 leaves, and against values from RFC 6962's own reference tree."""

from __future__ import annotations

import hashlib

import pytest

from shared.errors import BadInput, Conflict, Tampered
from shared.keys import SigningKey, cosign_note, verify_cosignature
from shared.tlog import (
    EMPTY_ROOT,
    Checkpoint,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    open_checkpoint,
    parse_checkpoint,
    verify_batch,
    verify_consistency,
    verify_inclusion,
)

N = 70
LEAVES = [leaf_hash(f"entry {i}".encode()) for i in range(N)]


def mth(leaves: list[bytes]) -> bytes:
    """The tree hash exactly as RFC 6962 section 2.1 defines it, to check the fast one against."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(mth(leaves[:k]), mth(leaves[k:]))


def grown(n: int) -> tuple[Frontier, dict[tuple[int, int], bytes]]:
    frontier = Frontier()
    nodes = {(level, index): node for level, index, node in frontier.extend(LEAVES[:n])}
    return frontier, nodes


FRONTIERS = [grown(n) for n in range(N + 1)]
ROOTS = [mth(LEAVES[:n]) for n in range(N + 1)]
NODES = FRONTIERS[N][1]


def read(level: int, index: int) -> bytes:
    return NODES[level, index]


def test_certificate_transparency_vector() -> None:
    """The eight inputs and root that Certificate Transparency's reference implementation publishes."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    frontier = Frontier()
    frontier.extend(leaf_hash(bytes.fromhex(i)) for i in inputs)
    assert frontier.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("n", range(N + 1))
def test_root_and_reload(n: int) -> None:
    assert FRONTIERS[n][0].root() == ROOTS[n]
    assert Frontier.load(n, read).root() == ROOTS[n]


def test_every_inclusion_proof() -> None:
    for n in range(1, N + 1):
        for i in range(n):
            proof = inclusion_proof(i, n, read)
            verify_inclusion(LEAVES[i], i, n, proof, ROOTS[n])


def test_inclusion_proofs_that_lie() -> None:
    for n in (1, 2, 3, 7, 8, 33, 70):
        for i in range(n):
            proof = inclusion_proof(i, n, read)
            wrong = [
                (LEAVES[(i + 1) % N], i, n, proof, ROOTS[n]),
                (LEAVES[i], n, n, proof, ROOTS[n]),
                (LEAVES[i], i, n, [*proof, LEAVES[0]], ROOTS[n]),
                (LEAVES[i], i, n, proof, ROOTS[n - 1]),
            ]
            wrong += [(LEAVES[i], i, n, proof[:-1], ROOTS[n])] if proof else []
            wrong += [(LEAVES[i], (i + 1) % n, n, proof, ROOTS[n])] if n > 1 else []
            for case in wrong:
                with pytest.raises(Tampered, match="tlog.inclusion"):
                    verify_inclusion(*case)


def test_every_consistency_proof() -> None:
    for new in range(N + 1):
        for old in range(new + 1):
            proof = consistency_proof(old, new, read)
            verify_consistency(old, ROOTS[old], new, ROOTS[new], proof)


def test_consistency_proofs_that_lie() -> None:
    other = hashlib.sha256(b"another history").digest()
    for new in (2, 3, 8, 21, 64, 70):
        for old in range(1, new):
            proof = consistency_proof(old, new, read)
            wrong = [
                (old, other, new, ROOTS[new], proof),
                (old, ROOTS[old], new, other, proof),
                (old, ROOTS[old], new, ROOTS[new], [*proof, other]),
                (old, ROOTS[old], new, ROOTS[new], proof[:-1]),
                (new + 1, ROOTS[old], new, ROOTS[new], proof),
            ]
            for case in wrong:
                with pytest.raises(Tampered, match="tlog.consistency"):
                    verify_consistency(*case)
    with pytest.raises(Tampered):
        verify_consistency(0, other, 3, ROOTS[3], [])
    with pytest.raises(Tampered):
        verify_consistency(3, ROOTS[3], 3, other, [])


def test_proofs_outside_the_tree() -> None:
    for call in (lambda: inclusion_proof(5, 5, read), lambda: consistency_proof(5, 4, read)):
        with pytest.raises(BadInput, match="tlog.range"):
            call()


KEY = SigningKey(bytes(range(32)))


def test_checkpoint_golden() -> None:
    """These bytes never change: a checkpoint signed by an old version must verify in every later one."""
    note = Checkpoint("outrider.example/log/dev-1", 3, ROOTS[3]).sign(KEY)
    assert note.decode() == (
        "outrider.example/log/dev-1\n3\nlPvQ3YNvUDAWkubQ6t5yjuGexSv/8WBu2AfIV11aqhk=\n\n"
        "— outrider.example/log/dev-1 "
        "IUE3Yw5osSwP6G8qxPCEBCP8GOCN61S+Q8lnuEYr8xTNsdovvZG1ngYps/TXX+9wP/d5Z9ZdwuAO7ARSIz5AqTHNtQs=\n"
    )


def test_checkpoint_round_trip_and_cosignature() -> None:
    hub = SigningKey(bytes(32))
    for n in range(N + 1):
        checkpoint = Checkpoint("log/x", n, ROOTS[n])
        note = cosign_note(checkpoint.sign(KEY), "hub/y", hub, 1_763_800_000)
        assert open_checkpoint(note, "log/x", KEY.public) == checkpoint
        assert verify_cosignature(note, "hub/y", hub.public) == 1_763_800_000


def test_checkpoint_of_another_key_or_log_is_refused() -> None:
    note = Checkpoint("log/x", 3, ROOTS[3]).sign(KEY)
    with pytest.raises(Tampered, match="note.unsigned"):
        open_checkpoint(note, "log/x", SigningKey(bytes(32)).public)
    with pytest.raises(Tampered, match="note.unsigned"):
        open_checkpoint(note, "log/z", KEY.public)
    with pytest.raises(Tampered, match="note.signature"):
        open_checkpoint(note.replace(b"\n3\n", b"\n4\n"), "log/x", KEY.public)
    with pytest.raises(Tampered, match="note.uncosigned"):
        verify_cosignature(note, "hub/y", KEY.public)


@pytest.mark.parametrize(
    "text", ["", "log\n", "log\nthree\nAAAA\n", "log\n03\nAAAA\n", "log\n3\nAAAA\n", "log\n-1\n!\n"]
)
def test_malformed_checkpoints(text: str) -> None:
    with pytest.raises(BadInput):
        parse_checkpoint(text)


@pytest.mark.parametrize("note", [b"", b"text only\n", b"a\n\nno dash x\n", b"a\n\n\xff\n", "a\n\n— n !!\n".encode()])
def test_malformed_notes(note: bytes) -> None:
    with pytest.raises(BadInput):
        open_checkpoint(note, "n", KEY.public)


def test_witness_accepts_growth_and_names_gaps_repeats_and_forks() -> None:
    held = FRONTIERS[10][0]
    after = verify_batch(held, 10, LEAVES[10:13], Checkpoint("x", 13, ROOTS[13]))
    assert (after.size, after.root()) == (13, ROOTS[13])
    assert held.size == 10, "judging leaves the held frontier alone"
    with pytest.raises(Conflict, match="log.gap"):
        verify_batch(held, 11, LEAVES[11:13], Checkpoint("x", 13, ROOTS[13]))
    with pytest.raises(Conflict, match="log.behind"):
        verify_batch(held, 9, LEAVES[9:13], Checkpoint("x", 13, ROOTS[13]))
    forged = [LEAVES[10], LEAVES[12], LEAVES[11]]
    with pytest.raises(Tampered, match="log.fork"):
        verify_batch(held, 10, forged, Checkpoint("x", 13, ROOTS[13]))
    with pytest.raises(Tampered, match="log.fork"):
        verify_batch(held, 10, LEAVES[10:13], Checkpoint("x", 14, ROOTS[13]))


def test_empty_tree() -> None:
    assert Frontier().root() == EMPTY_ROOT == ROOTS[0]
    with pytest.raises(BadInput, match="tlog.frontier"):
        Frontier(3, [bytes(32)])
