"""The sync protocol against automerge's own JavaScript: both ways, many seeds, and what each reads of the other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.memory.chunks import read_change
from shared.memory.repo import sync
from shared.memory.repo.bloom import Bloom
from shared.memory.repo.peer import History, Node, Peer
from shared.memory.repo.sync import Have, Message
from tests import npm


class Document(npm.Script):
    """A document in JavaScript."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Path(__file__).with_name("repo_peer.mjs"), folder)

    def next(self) -> Message | None:
        message = self.do("next")["message"]
        return None if message is None else sync.parse(bytes.fromhex(message))

    def tell(self, message: Message) -> None:
        self.do("receive", message=sync.encode(message).hex())

    def nodes(self) -> list[Node]:
        return [
            Node(one["hash"], tuple(one["deps"]), bytes.fromhex(one["chunk"])) for one in self.do("changes")["changes"]
        ]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Document, Document]]:
    folder = tmp_path_factory.mktemp("node")
    made = (Document(folder), Document(folder))
    yield made
    for script in made:
        script.close()


@pytest.fixture
def scripts(started: tuple[Document, Document]) -> tuple[Document, Document]:
    for script in started:
        script.do("begin")
    return started


def node(chunk: bytes) -> Node:
    read = read_change(chunk)
    return Node(read.hash, read.deps, chunk)


class Hub:
    """This side: a history, and a peer for each client."""

    def __init__(self, nodes: list[Node]) -> None:
        self.history = History(nodes)
        self.peers: dict[int, Peer] = {}

    def peer(self, client: int) -> Peer:
        return self.peers.setdefault(client, Peer(self.history))

    def take(self, client: int, message: Message) -> None:
        peer = self.peer(client)
        for fresh in peer.fresh([node(chunk) for chunk in message.changes]):
            self.history.add(fresh)
        peer.received(message)


def settle(hub: Hub, clients: list[Document]) -> int:
    """Exchange until nobody has anything to say; how many messages that took."""
    count = 0
    while True:
        quiet = True
        for number, client in enumerate(clients):
            said = client.next()
            if said is not None:
                hub.take(number, said)
                count, quiet = count + 1, False
            answer = hub.peer(number).next()
            if answer is not None:
                client.tell(answer)
                count, quiet = count + 1, False
        if quiet:
            return count
        assert count < 400


def some_edit(rng: random.Random) -> dict[str, Any]:
    match rng.randrange(5):
        case 0:
            return {"field": [rng.choice("abc"), rng.choice(["", "x", "naïve 😀"])]}
        case 1:
            return {"tag": rng.choice("xyz")}
        case 2 if rng.random() < 0.2:
            return {"whole": "begun again"}
    letters = "".join(rng.choice("abc äß😀\n") for _ in range(rng.choice([1, 5, 300])))
    return {"at": rng.randrange(40), "remove": rng.randrange(3), "text": letters}


@pytest.mark.parametrize("seed", range(12))
def test_documents_converge_with_javascript(scripts: tuple[Document, Document], seed: int) -> None:
    rng = random.Random(seed)
    one = scripts[0]
    one.do("create")
    hub = Hub(one.nodes() if rng.random() < 0.5 else [])
    for _ in range(6):
        for client in scripts if hub.peers else (one,):
            for _ in range(rng.choice([0, 1, 3, 20])):
                client.do("edit", **some_edit(rng))
        for number, client in enumerate(scripts):  # some messages cross each other
            for _ in range(rng.randrange(3)):
                said = client.next()
                if said is not None:
                    hub.take(number, said)
                answer = hub.peer(number).next()
                if answer is not None:
                    client.tell(answer)
        settle(hub, list(scripts))
        looks = [client.do("look") for client in scripts]
        assert looks[0] == looks[1] and tuple(looks[0]["heads"]) == hub.history.heads
        if rng.random() < 0.3:  # a connection is made anew on both sides
            number = rng.randrange(2)
            scripts[number].do("forget")
            hub.peers.pop(number, None)
        if rng.random() < 0.2:  # or the hub alone has forgotten
            hub.peers.pop(rng.randrange(2), None)
    assert settle(hub, list(scripts)) <= 8
    assert settle(hub, list(scripts)) == 0


def test_changes_that_a_filter_hides_are_asked_for(scripts: tuple[Document, Document]) -> None:
    one, _ = scripts
    one.do("create")
    for _ in range(40):
        one.do("edit", at=0, remove=0, text="x")
    nodes = one.nodes()
    hub = Hub([])
    peer = hub.peer(0)
    full = Bloom(1, 1, 8, b"\xff")  # claims to have everything
    hub.take(0, Message(heads=(nodes[-1].hash,)))
    one.tell(Message(heads=(), have=(Have((), full),), need=(nodes[5].hash, nodes[-1].hash)))
    said = one.next()
    assert said is not None and [node(chunk).hash for chunk in said.changes] == [nodes[5].hash, nodes[-1].hash]
    hub.take(0, said)
    assert len(hub.history) == 0 and len(peer.waiting) == 2
    asked = peer.next()
    assert asked is not None and asked.need == (nodes[-2].hash,) and not asked.have
    one.do("forget")
    one.tell(asked)
    settle(hub, [one])
    assert tuple(one.do("look")["heads"]) == hub.history.heads and len(peer.waiting) == 0


def test_javascript_reads_what_is_written_here(scripts: tuple[Document, Document]) -> None:
    one, _ = scripts
    one.do("create")
    nodes = one.nodes()
    hashes = tuple(sorted(node_.hash for node_ in nodes))
    message = Message(hashes, hashes, (Have(hashes, Bloom.of(hashes)),), tuple(node_.chunk for node_ in nodes))
    read = one.do("decode", message=sync.encode(message).hex())
    assert read == {
        "heads": list(hashes),
        "need": list(hashes),
        "have": [{"lastSync": list(hashes), "bloom": message.have[0].bloom.encode().hex()}],
        "changes": [node_.chunk.hex() for node_ in nodes],
    }


def test_a_client_that_has_met_another_hub_begins_again(scripts: tuple[Document, Document]) -> None:
    one, two = scripts
    one.do("create")
    hub = Hub(one.nodes())
    settle(hub, [one, two])
    one.do("edit", at=0, remove=0, text="kept elsewhere")
    settle(hub, [one, two])
    restored = Hub(hub.history and [hub.history[hash_] for hash_ in hub.history.since(())][:1])
    assert len(restored.history) == 1
    settle(restored, [one, two])
    assert restored.history.heads == hub.history.heads
