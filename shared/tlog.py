"""The Merkle tree of RFC 6962 and its checkpoints (C2SP tlog-checkpoint). Spec page: ``shared/spec/log.md``.

A log of n entries is a tree over their exact bytes. ``Frontier`` is all a writer or a witness must hold to append and
to know the root: the roots of the perfect subtrees, one per set bit of n. Proofs are made from stored subtree hashes
(``NodeReader``) and checked by short pure functions that follow RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shared.codec import b64, unb64
from shared.errors import BadInput, Conflict, Tampered
from shared.keys import PublicKey, SigningKey, key_id, sign_note, verify_note

EMPTY_ROOT = hashlib.sha256(b"").digest()

# Reads the hash of the perfect subtree of 2**level leaves that begins at leaf index * 2**level.
NodeReader = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: ``size`` leaves, and the roots of its perfect subtrees, largest first."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)
        if len(self.peaks) != size.bit_count() or any(len(p) != 32 for p in self.peaks):
            raise BadInput("tlog.frontier", "peaks do not fit the size", advice="rebuild the tree from its entries")

    @classmethod
    def load(cls, size: int, read: NodeReader) -> Frontier:
        return cls(size, (read(level, index) for level, index in _cover(0, size)))

    def grow(self, leaf: bytes) -> list[bytes]:
        """Add a leaf hash; return the perfect subtrees it completes, the leaf itself first: levels 0, 1, 2 and on.

        So the node (level, index) is what leaf number ``((index + 1) << level) - 1`` completed at that level.
        """
        index, node = self.size, leaf
        done = [node]
        while index & 1:
            node = node_hash(self.peaks.pop(), node)
            done.append(node)
            index >>= 1
        self.peaks.append(node)
        self.size += 1
        return done

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf hash; return every perfect subtree it completes as (level, index, hash), the leaf itself first."""
        index = self.size
        return [(level, index >> level, node) for level, node in enumerate(self.grow(leaf))]

    def extend(self, leaves: Iterable[bytes]) -> list[tuple[int, int, bytes]]:
        """Add leaf hashes; return all completed subtrees."""
        return [node for leaf in leaves for node in self.append(leaf)]

    def copy(self) -> Frontier:
        made = object.__new__(Frontier)  # what fits here fits there
        made.size, made.peaks = self.size, self.peaks.copy()
        return made

    def root(self) -> bytes:
        if not self.peaks:
            return EMPTY_ROOT
        *rest, node = self.peaks
        for peak in reversed(rest):
            node = node_hash(peak, node)
        return node


def _cover(begin: int, end: int) -> list[tuple[int, int]]:
    """The perfect subtrees (level, index) that tile leaves [begin, end), left to right; ``begin`` splits as in MTH."""
    found = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        found.append((level, begin >> level))
        begin += 1 << level
    return found


def _range_root(begin: int, end: int, read: NodeReader) -> bytes:
    nodes = [read(level, index) for level, index in _cover(begin, end)]
    node = nodes.pop()
    while nodes:
        node = node_hash(nodes.pop(), node)
    return node


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << ((count - 1).bit_length() - 1)


def inclusion_proof(index: int, size: int, read: NodeReader) -> list[bytes]:
    """The audit path of leaf ``index`` in the tree of ``size`` leaves (RFC 9162 2.1.3.1), nearest sibling first."""
    if not 0 <= index < size:
        raise BadInput("tlog.range", f"no leaf {index} in a tree of {size}", advice="ask for an entry the log has")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_range_root(middle, end, read))
            end = middle
        else:
            path.append(_range_root(begin, middle, read))
            begin = middle
    return path[::-1]


def consistency_proof(old: int, new: int, read: NodeReader) -> list[bytes]:
    """Proof that the tree of ``old`` leaves is a prefix of the tree of ``new`` (RFC 9162 2.1.4.1)."""
    if not 0 <= old <= new:
        raise BadInput("tlog.range", f"{old} is not a prefix size of {new}", advice="ask for sizes in order")
    if old in (0, new):
        return []
    proof: list[bytes] = []
    begin, end, whole = 0, new, True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            proof.append(_range_root(middle, end, read))
            end = middle
        else:
            proof.append(_range_root(begin, middle, read))
            begin, whole = middle, False
    if not whole:
        proof.append(_range_root(begin, end, read))
    return proof[::-1]


def _broken(code: str, what: str) -> Tampered:
    return Tampered(code, f"the {what} proof does not lead to the root", advice="keep both checkpoints as evidence")


def verify_inclusion(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> None:
    """Raise ``Tampered`` unless ``leaf`` (a leaf hash) stands at ``index`` in the tree (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        raise _broken("tlog.inclusion", "inclusion")
    fn, sn, node = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            raise _broken("tlog.inclusion", "inclusion")
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or node != root:
        raise _broken("tlog.inclusion", "inclusion")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: list[bytes]) -> None:
    """Raise ``Tampered`` unless the tree of ``old`` leaves is a prefix of the tree of ``new`` (RFC 9162 2.1.4.2)."""
    if not 0 <= old <= new:
        raise _broken("tlog.consistency", "consistency")
    if old == 0 or old == new:
        if proof or (old == new and old_root != new_root) or (old == 0 and old_root != EMPTY_ROOT):
            raise _broken("tlog.consistency", "consistency")
        return
    path = list(proof)
    if old & (old - 1) == 0:  # a power of two is itself a node of the new tree
        path.insert(0, old_root)
    if not path:
        raise _broken("tlog.consistency", "consistency")
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for node in path[1:]:
        if sn == 0:
            raise _broken("tlog.consistency", "consistency")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(node, fr), node_hash(node, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, node)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or fr != old_root or sr != new_root:
        raise _broken("tlog.consistency", "consistency")


@dataclass(frozen=True)
class Checkpoint:
    """What a log's writer signs after every commit: its name, how many entries it has, and their root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64(self.root)}\n"

    def sign(self, key: SigningKey) -> bytes:
        """A signed note whose signer is the origin."""
        return sign_note(self.text(), self.origin, key)


class Signer:
    """Signs one log's checkpoints: the bytes that ``Checkpoint.sign`` makes, with what never changes made once."""

    def __init__(self, origin: str, key: SigningKey) -> None:
        self._key = key
        self._id = key_id(origin, key.public)
        self._origin = origin
        Checkpoint(origin, 0, EMPTY_ROOT).sign(key)  # an origin that cannot be one is refused here

    def sign(self, size: int, root: bytes) -> bytes:
        text = f"{self._origin}\n{size}\n{b64(root)}\n"
        return f"{text}\n— {self._origin} {b64(self._id + self._key.sign(text.encode()))}\n".encode()


def parse_checkpoint(text: str) -> Checkpoint:
    lines = text.split("\n")
    advice = "the checkpoint was cut or edited; fetch it again"
    if len(lines) < 4 or not lines[0]:
        raise BadInput("tlog.checkpoint", "a checkpoint has origin, size and root lines", advice=advice)
    size, root = lines[1], unb64(lines[2], what="the checkpoint's root")
    if not (size.isascii() and size.isdigit()) or (size != "0" and size.startswith("0")) or len(size) > 18:
        raise BadInput("tlog.checkpoint", "a checkpoint's size is a plain decimal", advice=advice)
    if len(root) != 32:
        raise BadInput("tlog.checkpoint", "a checkpoint's root has 32 bytes", advice=advice)
    return Checkpoint(lines[0], int(size), root)


def open_checkpoint(note: bytes, origin: str, key: PublicKey) -> Checkpoint:
    """The checkpoint in a note that ``origin`` signed with ``key``; ``Tampered`` when it did not."""
    checkpoint = parse_checkpoint(verify_note(note, origin, key))
    if checkpoint.origin != origin:
        raise Tampered(
            "tlog.origin", f"this checkpoint is of {checkpoint.origin}, not {origin}", advice="do not mix logs"
        )
    return checkpoint


def verify_batch(held: Frontier, start: int, leaves: list[bytes], claimed: Checkpoint) -> Frontier:
    """Judge leaf hashes that claim to follow what a witness holds; return the new frontier.

    No consistency proof is needed: the witness extends the tree it holds itself, and the claimed root must come out.
    Raises ``Conflict('log.gap')`` when entries are missing, ``Conflict('log.behind')`` when they were held already,
    ``Tampered('log.fork')`` when the same size has another root.
    """
    if start > held.size:
        raise Conflict(
            "log.gap",
            f"the batch begins at entry {start}, but only {held.size} are held",
            advice=f"send again from entry {held.size}",
        )
    if start < held.size:
        raise Conflict(
            "log.behind",
            f"the batch begins at entry {start}, but {held.size} are held already",
            advice=f"send again from entry {held.size}",
        )
    grown = held.copy()
    grown.extend(leaves)
    if claimed.size != grown.size or claimed.root != grown.root():
        raise Tampered(
            "log.fork",
            f"the entries up to {grown.size} do not have the root their checkpoint claims",
            advice="the log was rewritten or another copy of it writes; keep both copies and revoke the device",
        )
    return grown
