"""What must hold in a ``World`` when everything is mended and nobody has anything left to say.

1. Every device of a scope and the hub have the same changes of the same items, and show the same items.
2. Nothing that the hub acknowledged is missing, unless it was forgotten. Nothing that a device acknowledged to its
   person is missing, unless it was forgotten, refused with a code in the log, taken away, or went with a lost disk.
3. What was forgotten is in no file of anybody: not its words, not a piece of a change, plain or base64.
4. No device has anything of a scope that is not its own (any more).
5. What was held is there until the hold is lifted, and every device knows the holds of its scopes.
6. What is a device's own is in no file of anybody else.
7. Cursors stand where the hub's feeds end, nothing waits that could be sent, and every tombstone has its receipt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shared.codec import b64
from shared.memory.document import Document
from shared.memory.feed import may
from tests.system.station import Device
from tests.system.world import World

Items = dict[str, dict[str, bytes]]  # item: change's hash: chunk


def faults(world: World) -> list[str]:
    """What does not hold, in words; empty when all does."""
    return [f"seed {world.seed}: {fault}" for check in CHECKS for fault in check(world)]


def _of_device(device: Device, scope: str) -> Items:
    found: Items = {}
    for item, name, data in device.memory._db.execute(
        "SELECT item, hash, data FROM chunk WHERE scope = ? AND (sent = 1 OR ? = 'device')", (scope, scope)
    ):
        found.setdefault(item, {})[bytes(name).hex()] = bytes(data)
    return found


def _same_items(world: World) -> Iterator[str]:
    feeds = {scope: world.hub.items(scope) for scope in world.hub.scopes()}
    shown = {
        (scope, item): Document.load(chunks.values()).item()
        for scope, of in feeds.items()
        for item, chunks in of.items()
    }
    for device in world.devices:
        for scope in sorted(device.memory.feeds().keys() & world.hub.roles(device.name).keys()):
            where = world.where(device, scope)
            truth, here = feeds.get(where, {}), _of_device(device, scope)
            waiting = {change.item for change in device.memory.outbox(scope)}
            for item in sorted(truth.keys() | here.keys()):
                theirs, ours = truth.get(item, {}), here.get(item, {})
                if theirs.keys() != ours.keys():
                    yield (
                        f"{device.name} and the hub differ in {where} {item}: {len(theirs)} changes there,"
                        f" {len(ours)} here, {len(theirs.keys() & ours.keys())} the same"
                    )
                elif item not in waiting and device.memory.get(item) != shown[where, item]:
                    yield f"{device.name} shows another {where} {item}"


def _nothing_lost(world: World) -> Iterator[str]:
    there = {name for scope in world.hub.scopes() for of in world.hub.items(scope).values() for name in of}
    for name, (where, item) in world.acked.items():
        if name not in there and (where, item) not in world.dead:
            yield f"the hub acknowledged {name[:12]} of {where} {item} and has it no more"
    for stone in sorted(world.stand - world.hub.times().keys()):
        yield f"the hub said that {stone} stands, and it does not"
    for name, (where, item, by) in world.local.items():
        device = next(device for device in world.devices if device.name == by)
        explained = (
            (where, item) in world.dead | world.perhaps or name in there | device.lost or name in device.hashes()
        )
        scope = world.written[where, item].scope
        if not explained and not device.refused() & {name, scope}:
            yield f"{by} acknowledged {name[:12]} of {where} {item} to its person, and it is nowhere"


def _needles(world: World, only: set[tuple[str, str]]) -> Iterator[tuple[str, str, bytes]]:
    for (where, item), kept in world.written.items():
        if (where, item) not in only:
            continue
        for word in kept.words:
            yield where, item, word.encode()
        for chunk in kept.chunks:
            yield where, item, chunk[4:28]  # its checksum and what follows: no two begin alike
            yield where, item, b64(chunk).encode()[4:40]


def _forgotten(world: World) -> Iterator[str]:
    alive = {word for key, kept in world.written.items() if key not in world.dead for word in kept.words}
    files = [(name, path.name, path.read_bytes()) for name, path in _all_files(world)]
    for where, item, needle in _needles(world, world.dead):
        if needle.decode("latin-1") in alive:
            continue
        for name, file, data in files:
            if needle in data:
                yield f"{name}: {needle!r} of {where} {item}, which was forgotten, is in {file}"


def _all_files(world: World) -> Iterator[tuple[str, Path]]:
    for name, home in [("hub", world.hub.home), *((device.name, device.home) for device in world.devices)]:
        yield from ((name, path) for path in _files(home))
    yield from (("hub", path) for path in world.hub.rows.files())


def _files(home: Path) -> Iterator[Path]:
    return (path for path in sorted(home.rglob("*")) if path.is_file() and not path.name.endswith("-shm"))


def _only_their_own(world: World) -> Iterator[str]:
    for device in world.devices:
        roles = world.hub.roles(device.name)
        mine = {"device", *roles}
        for table in ("item", "chunk", "feed"):
            for (scope,) in device.memory._db.execute(f"SELECT DISTINCT scope FROM {table}"):
                if scope not in mine:
                    yield f"{device.name} still has {table} rows of {scope}"
        theirs = {
            key for key, kept in world.written.items() if kept.scope.startswith("team/") and kept.scope not in mine
        }
        theirs |= {
            key for key, kept in world.written.items() if kept.scope == "person" and kept.person != device.person
        }
        whole = b"".join(path.read_bytes() for path in _files(device.home))
        for where, item, needle in _needles(world, theirs):
            if needle in whole:
                yield f"{device.name} has {needle!r} of {where} {item} in its files, which is not its own"


def _held(world: World) -> Iterator[str]:
    yield from world.broken


def _on_their_own(world: World) -> Iterator[str]:
    own = {key for key, kept in world.written.items() if kept.scope == "device"}
    files = [(name, path.name, path.read_bytes()) for name, path in _all_files(world)]
    for where, item, needle in _needles(world, own):
        for name, file, data in files:
            if where != f"device/{name}" and needle in data:
                yield f"{name}: {needle!r} of {where} {item}, which never leaves its device, is in {file}"


def _all_is_said(world: World) -> Iterator[str]:
    for device in world.devices:
        feeds = device.memory.feeds()
        roles = world.hub.roles(device.name)
        if {scope: held.role for scope, held in feeds.items()} != roles:
            yield f"{device.name} believes it has {feeds}, the hub says {roles}"
        for scope, held in feeds.items():
            if scope not in roles:
                continue  # said above
            end = world.hub.end(device.name, scope)
            if held.cursor != end:
                yield f"{device.name} stands at {held.cursor} of {scope}, the feed ends at {end}"
            waits = device.memory.outbox(scope)
            if waits and may(held.role, "writer"):
                yield f"{device.name} still has {len(waits)} changes to send in {scope}: {device.replica._put_off}"
            for stone in world.hub.stones(world.where(device, scope)):
                if stone not in device.receipts:
                    yield f"{device.name} has given no receipt for {stone}"
        if device.memory.pending():
            yield f"{device.name} has erasures pending"


CHECKS = (_same_items, _nothing_lost, _forgotten, _only_their_own, _held, _on_their_own, _all_is_said)
