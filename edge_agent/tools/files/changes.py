"""Changes of files that happen once a key, survive a crash at any point, and can be taken back.

The order of writes, for each change: what it replaces is kept; the new content lies beside its target under a hidden
name; the ledger says ``begun``; the name changes hands in one step of the file system; the ledger says ``done``. Each
is synced before the next. After a crash in between, the inode tells whether the name changed hands, so that the key can
be answered for. Where somebody else has changed the file since and nothing tells any more, the answer is that nobody
knows.

A file that another program puts in this one's place in the microseconds between the last look at it and the rename is
replaced unseen. What another program writes into the file itself until then is noticed and kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from edge_agent.tools.files import disk
from edge_agent.tools.files.disk import Held
from edge_agent.tools.files.ledger import Book, Change, Entry, Former, Ledger, reaching
from edge_agent.tools.files.paths import Roots, Spot, plain_status, status
from shared.codec import hex_sha256
from shared.errors import BadInput, Refused, Unavailable

Details = dict[str, Any]
# From the content that stands there, or ``None``, to the new one and what else its receipt says. May refuse.
Compute = Callable[[bytes | None], tuple[bytes, Details]]
# From a change, the content before it, and the content now, to the one without that change. May refuse.
Mend = Callable[[Change, bytes, bytes | None], tuple[bytes, Details]]


class Changes:
    """One adapter's changes below its roots. Every method may block: call it in a thread."""

    def __init__(self, roots: Roots, ledger: Ledger, *, max_bytes: int, now: Callable[[], int]) -> None:
        self.roots = roots
        self._ledger = ledger
        self._most = max_bytes
        self._now = now

    def known(self, key: str) -> Details | None:
        """The receipt of a key that took effect, ``None`` for one that did not; ``Unavailable('files.doubt')``."""
        with self._ledger.held() as book, reaching("the ledger", begun=False):
            entry = book.find(key)
            return entry.change.receipt if entry and self._happened(book, key, entry) else None

    def put(self, key: str, spot: Spot, compute: Compute) -> Details:
        """Leave a content at ``spot``, with the folders on the way made; the receipt."""
        return self._once(key, str(spot), lambda book, made: self._put(book, key, spot, compute, made))

    def remove(self, key: str, spot: Spot) -> Details:
        """Take the file away, with its content kept; the receipt."""
        return self._once(key, str(spot), lambda book, _: self._remove(book, key, spot, [], {}, ""))

    def move(self, key: str, source: Spot, target: Spot) -> Details:
        """Give the file another name, which must be free; the receipt."""
        return self._once(key, str(source), lambda book, made: self._move(book, key, source, target, made, [], {}))

    def restore(self, key: str, entry: str, otherwise: Mend | None = None) -> Details:
        """Take back what the key ``entry`` changed, as long as nobody changed it since; the receipt. ``otherwise`` is
        how a changed content is mended, where the caller knows."""
        return self._once(key, entry, lambda book, made: self._restore(book, key, entry, made, otherwise))

    def content(self, spot: Spot) -> bytes:
        """What the file holds. Raises ``Refused('files.missing')``."""
        with (
            reaching(str(spot), begun=False),
            self.roots.folder(spot.parent) as folder,
            disk.held(folder, spot, self._most) as found,
        ):
            if found is None:
                raise disk.missing(spot)
            return found.content

    def recorded(self, entry: str) -> Change | None:
        """What is recorded of a key that is done."""
        with self._ledger.held() as book, reaching("the ledger", begun=False):
            found = book.find(entry)
            return found.change if found and found.phase == "done" else None

    # --- the ways ---------------------------------------------------------------------------------------------------

    def _once(self, key: str, what: str, act: Callable[[Book, list[str]], Details]) -> Details:
        with self._ledger.held() as book, reaching(what, begun=False):
            entry = book.find(key)
            if entry is None:
                return act(book, [])
            return entry.change.receipt if self._happened(book, key, entry) else act(book, entry.change.made)

    def _put(
        self, book: Book, key: str, spot: Spot, compute: Compute, made: list[str], meta: Former | None = None
    ) -> Details:
        missing = self.roots.missing(spot.parent)
        if missing:
            compute(None)  # it may refuse, and then no folder is made
            made = [*made, *(path for path in missing if path not in made)]
            book.write(key, "planned", Change(op="put", path=str(spot), made=made), self._now())
            for path in missing:
                self.roots.make(path)
        with self.roots.folder(spot.parent) as folder, disk.held(folder, spot, self._most) as old:
            content, more = compute(old.content if old else None)
            if len(content) > self._most:
                raise disk.too_large(spot, len(content), self._most)
            former = _former(book, old)
            mode = meta.mode if meta else former.mode if former else None
            mark = disk.write_passing(folder, key, content, mode=mode, modified_ns=meta.modified_ns if meta else None)
            sha = hex_sha256(content)
            told = {"path": str(spot), "entry": key, "sha256": sha, "bytes": len(content)}
            told["replaced"] = former and former.sha256
            change = Change(
                op="put", path=str(spot), former=former, latter=sha, made=made, mark=mark, receipt={**told, **more}
            )
            self._begin(book, key, change, lambda: disk.place(folder, key, spot, old), folder)
            return self._end(book, key, _with_late(book, change, old), folder)

    def _remove(self, book: Book, key: str, spot: Spot, tidy: list[str], more: Details, wanted: str) -> Details:
        with self.roots.folder(spot.parent) as folder, disk.held(folder, spot, self._most) as old:
            if old is None:
                raise disk.missing(spot)
            former = _former(book, old)
            assert former is not None
            if wanted and former.sha256 != wanted:
                raise disk.changed(spot)
            told = {"path": str(spot), "entry": key, "sha256": former.sha256, "bytes": len(old.content), **more}
            mark = disk.mark(old.status)
            change = Change(op="remove", path=str(spot), former=former, tidy=tidy, mark=mark, receipt=told)

            def unlink() -> None:
                now = plain_status(folder, spot)
                if now is None or disk.mark(now) != mark or old.written_to():
                    raise disk.changed(spot)
                os.unlink(spot.name, dir_fd=folder)

            self._begin(book, key, change, unlink, folder)
            return self._end(book, key, _with_late(book, change, old), folder)

    def _move(
        self, book: Book, key: str, source: Spot, target: Spot, made: list[str], tidy: list[str], more: Details
    ) -> Details:
        with self.roots.folder(source.parent) as from_folder:
            found = plain_status(from_folder, source)
            if found is None:
                raise disk.missing(source)
            missing = self.roots.missing(target.parent)
            made = [*made, *(path for path in missing if path not in made)]
            told = {"from": str(source), "to": str(target), "entry": key, "bytes": found.st_size}
            told["modified_us"] = found.st_mtime_ns // 1000
            change = Change(
                op="move", path=str(source), target=str(target), made=made, tidy=tidy,
                mark=disk.mark(found), receipt={**told, **more},
            )  # fmt: skip
            if missing:
                book.write(key, "planned", change, self._now())
                for path in missing:
                    self.roots.make(path)
            with self.roots.folder(target.parent) as to_folder:
                if plain_status(to_folder, target) is not None:
                    raise disk.exists(target)

                def rename() -> None:
                    if disk.take_name(from_folder, source.name, to_folder, target):
                        os.unlink(source.name, dir_fd=from_folder)
                    else:
                        os.rename(source.name, target.name, src_dir_fd=from_folder, dst_dir_fd=to_folder)

                self._begin(book, key, change, rename, to_folder)
                with reaching(str(source), begun=True):
                    os.fsync(from_folder)
                return self._end(book, key, change, to_folder)

    def _restore(self, book: Book, key: str, entry: str, made: list[str], otherwise: Mend | None) -> Details:
        found = book.find(entry)
        if found is None or found.phase != "done":
            raise Refused("files.entry", "no change of that name was made here", advice="take entry from a receipt")
        change, more = found.change, {"restored": entry}
        spot, former = self.roots.spot(change.path), change.former
        if change.op == "move":
            tidy = list(reversed(change.made))
            return self._move(book, key, self.roots.spot(change.target), spot, made, tidy, more)
        if former is None and (otherwise is None or self._sha(spot) == change.latter):
            return self._remove(book, key, spot, list(reversed(change.made)), more, change.latter)
        kept = book.kept(former.sha256) if former else b""

        def back(now: bytes | None) -> tuple[bytes, Details]:
            if change.op == "remove":
                if now is not None:
                    raise disk.exists(spot)
            elif now is None or hex_sha256(now) != change.latter:
                if otherwise is None:
                    raise disk.changed(spot)
                content, told = otherwise(change, kept, now)
                return content, {**told, **more}
            return kept, more

        return self._put(book, key, spot, back, made, former)

    def _sha(self, spot: Spot) -> str:
        with self.roots.folder(spot.parent) as folder, disk.held(folder, spot, self._most) as found:
            return hex_sha256(found.content) if found else ""

    # --- begun, done, and what a crash left between -----------------------------------------------------------------

    def _begin(self, book: Book, key: str, change: Change, step: Callable[[], None], folder: int) -> None:
        book.write(key, "begun", change, self._now())
        with reaching(change.path, begun=True):
            try:
                step()
            except Refused:  # it did not happen, and is not in doubt
                book.write(key, "planned", change, self._now())
                disk.drop(folder, disk.passing(key))
                raise

    def _end(self, book: Book, key: str, change: Change, folder: int | None) -> Details:
        with reaching(change.path, begun=True):
            if folder is not None:
                os.fsync(folder)
            for path in change.tidy:
                self.roots.remove(path)
            book.write(key, "done", change, self._now())
        return change.receipt

    def _happened(self, book: Book, key: str, entry: Entry) -> bool:
        """Whether a recorded change took place. One that was cut off is ended, or cleared away."""
        if entry.phase != "begun":
            return entry.phase == "done"
        change = entry.change
        try:
            with reaching(change.path, begun=True):
                happened = self._look(key, change)
        except (Refused, BadInput) as error:  # the way there has changed, or the roots have
            raise _doubt(change) from error
        if happened:
            self._end(book, key, change, None)
        else:
            book.write(key, "planned", change, self._now())
            self._clear(key, change)
        return happened

    def _clear(self, key: str, change: Change) -> None:
        with suppress(Refused), self.roots.folder(self.roots.spot(change.path).parent) as folder:
            disk.drop(folder, disk.passing(key))

    def _look(self, key: str, change: Change) -> bool:
        spot = self.roots.spot(change.path)
        try:
            with self.roots.folder(spot.parent) as folder:
                here = status(folder, spot)
                mine = here is not None and disk.mark(here) == change.mark
                if change.op == "put":
                    return self._look_put(folder, key, spot, change, mine)
                if change.op == "move":
                    return self._look_move(folder, spot, change, mine)
                if here is not None and not mine:
                    raise _doubt(change)
                os.fsync(folder)
                return here is None
        except Refused as error:
            if error.code != "files.missing" or change.op == "put":
                raise
        # The folder it was in has been tidied away already.
        return change.op == "remove" or self._look_move(None, spot, change, mine=False)

    def _look_put(self, folder: int, key: str, spot: Spot, change: Change, mine: bool) -> bool:
        waits = disk.there(folder, disk.passing(key))
        if mine and waits:  # it has both names
            disk.drop(folder, disk.passing(key))
        if not mine and not waits:
            with disk.held(folder, spot, self._most) as found:
                if found is None or hex_sha256(found.content) != change.latter:
                    raise _doubt(change)
        os.fsync(folder)
        return mine or not waits

    def _look_move(self, source: int | None, spot: Spot, change: Change, mine: bool) -> bool:
        target = self.roots.spot(change.target)
        with self.roots.folder(target.parent) as folder:
            there = status(folder, target)
            arrived = there is not None and disk.mark(there) == change.mark
            if not arrived and not mine:
                raise _doubt(change)
            if arrived and mine and source is not None:  # it has both names
                os.unlink(spot.name, dir_fd=source)
            os.fsync(folder)
            if source is not None:
                os.fsync(source)
            return arrived


def _former(book: Book, old: Held | None) -> Former | None:
    if old is None:
        return None
    return Former(book.keep(old.content), old.status.st_mode & 0o777, old.status.st_mtime_ns)


def _with_late(book: Book, change: Change, old: Held | None) -> Change:
    """Somebody who had the file open may have written into it between our reading and its end: keep that instead."""
    with reaching(change.path, begun=True):
        if old is None or not old.written_to():
            return change
        status = os.fstat(old.handle)
        late = Former(book.keep(old.read_again()), status.st_mode & 0o777, status.st_mtime_ns)
        receipt = {**change.receipt, "replaced": late.sha256} if change.op == "put" else change.receipt
        return msgspec.structs.replace(change, former=late, receipt=receipt)


def _doubt(change: Change) -> Unavailable:
    return Unavailable(
        "files.doubt", f"{change.path} has been changed since, so nobody can tell whether this {change.op} happened",
        advice="look at the file, and decide",
    )  # fmt: skip
