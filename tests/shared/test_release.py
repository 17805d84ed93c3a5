"""What a release is, and the messages the hub signs: golden bytes, round trips, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shared
from shared.codec import canonical, hex_sha256
from shared.errors import BadInput, OutriderError, Refused, Tampered
from shared.facts import Switch
from shared.keys import Envelope, SigningKey, seal
from shared.release import (
    PURPOSES,
    Answer,
    Assignment,
    Lease,
    Order,
    Release,
    Replay,
    Revocation,
    Stop,
    Ticket,
    open_release,
    open_signed,
    read_manifest,
    sign,
)

HUB = SigningKey(bytes(range(32, 64)))
T = 1_790_000_000_000_000
DAY = 86_400_000_000
ASSIGNMENT = Assignment("d1", 7, T, T + DAY)
LEASE = Lease("l1", "d1", T, T + DAY, 200, 5_000_000)
APPROVED = Answer("ap1", "d1", "run1", "ab" * 32, "approve", "eve", "clerk", T, "looks right", "", None)
CORRECTED = Answer(
    "ap2",
    "d1",
    "run2",
    "ab" * 32,
    "correct",
    "eve",
    "clerk",
    T,
    "a sign",
    "cd" * 32,
    {"lane": "sign", "work_type": None},
)
FOR_AN_HOUR = msgspec.structs.replace(APPROVED, similar_until=T + 3_600_000_000)
ORDER = Order("o1", "d1", "run1", "mail#2", "not-happened", "eve", "clerk", T, "it is not in the outbox")
REVOCATION = Revocation("d1", T, "device.lost")
STOP = Stop("d1", T, 12, [Switch("sw1", "tool", "mail.send", "eve", T, "wrong")])
REPLAY = Replay("rpl1", "d1", 7, 50, T + 86_400_000_000)
TICKET = Ticket(
    device="d1",
    key="K8KACzMW4Akgn/11fasZzPCuhLx66QZU4egXEtJw9lM=",
    address="192.168.1.20:8401",
    asker="d2",
    asker_key="rwaj4ykXFOTzVsGcmxXNGVHsbmZiqne+B1R/KJODNB0=",
    sha256="ab" * 32,
    expires_at=T + 600_000_000,
)
MESSAGES = [ASSIGNMENT, LEASE, APPROVED, CORRECTED, FOR_AN_HOUR, ORDER, REVOCATION, STOP, REPLAY, TICKET]


def code_of(kind: type[OutriderError], call: Any, *args: Any) -> str:
    with pytest.raises(kind) as caught:
        call(*args)
    assert caught.value.advice
    return caught.value.code


# --- signed messages ----------------------------------------------------------------------------------------------

GOLDEN = {
    "assignment": (
        ASSIGNMENT,
        '{"device":"d1","expires_at":1790086400000000,"issued_at":1790000000000000,"release":7}',
        "pZaadU38cz1ziw1jYWDF21UvDogWXlzS8vJXTNKsI36oFk0Tcy6rHBwzljSCfS6J+fXu3oRqFduzDrrEtZYmAA==",
    ),
    "lease": (
        LEASE,
        '{"actions":200,"device":"d1","expires_at":1790086400000000,"issued_at":1790000000000000,"lease":"l1",'
        '"value_cents":5000000}',
        "R59SdnSLmpg49jh2yticXdkgcaFjWFZ573/wi67k+Iwbh+gKmBPlAeiv3a9vssDsyUDFFraaEgK3EUE2dBvMAg==",
    ),
    "answer": (
        APPROVED,
        '{"action":"' + "ab" * 32 + '","answer":"approve","approval":"ap1","arguments":null,"at":1790000000000000,'
        '"by":"eve","corrected":"","device":"d1","reason":"looks right","role":"clerk","run":"run1"}',
        "bGUHkxLHtOuEzaSMXDI9M2gE1yYKRaLbSDP8ntnMGibnKMTVHIC48v72L3yEZXGrLqyKBg6j3noqPkD9VblXBQ==",
    ),
    "answer for an hour": (
        FOR_AN_HOUR,
        '{"action":"' + "ab" * 32 + '","answer":"approve","approval":"ap1","arguments":null,"at":1790000000000000,'
        '"by":"eve","corrected":"","device":"d1","reason":"looks right","role":"clerk","run":"run1",'
        '"similar_until":1790003600000000}',
        "BluY/+nsGruOFEa0fJFtp8hVihrVkWPSLWTZ2UBTbw+4MH+IFOOxQzraXqWqQvP9+pIsp0HcnJ3DLoOBgPjTCA==",
    ),
    "order": (
        ORDER,
        '{"at":1790000000000000,"by":"eve","device":"d1","id":"o1","order":"not-happened",'
        '"reason":"it is not in the outbox","role":"clerk","run":"run1","step":"mail#2"}',
        "tEdyzYMuO+PBhL8pBXqFDSlymfKZvui6wcPHZnrXVgtMCmnAX5Pex0N79sjfSsupsd5xx0LL06yXLgTp+pK9DA==",
    ),
    "revocation": (
        REVOCATION,
        '{"at":1790000000000000,"code":"device.lost","device":"d1"}',
        "z+diI3V1NBxIvDMBr6Y3yY9M1AyknM6ccMo07fFWQ2sSK067ry5Y+6+8LSJtwqJhlegJ7M+az7rbN3Ssxkj7BA==",
    ),
    "stop": (
        STOP,
        '{"at":1790000000000000,"device":"d1","switches":[{"at":1790000000000000,"by":"eve","id":"sw1","kind":"tool",'
        '"name":"mail.send","reason_code":"wrong"}],"version":12}',
        "sLTM+4crA1eP/foCqZ9SiQyxm1A8qupfeW68hp3wLLBf9y5zXhYQGWAUjJ8EM7qimoSKtQdDv6cf9FUpBF2FAw==",
    ),
    "replay": (
        REPLAY,
        '{"device":"d1","expires_at":1790086400000000,"id":"rpl1","release":7,"sample":50}',
        "YOz9fAyrDI4JMtoD0vbgFlg9poje+IsO25ujZj6hO7OmHsPf8QrbB6Iv50xiQsDCERWshbkLCEoCQy8YkTNFAw==",
    ),
    "ticket": (
        TICKET,
        '{"address":"192.168.1.20:8401","asker":"d2","asker_key":"rwaj4ykXFOTzVsGcmxXNGVHsbmZiqne+B1R/KJODNB0=",'
        '"device":"d1","expires_at":1790000600000000,"key":"K8KACzMW4Akgn/11fasZzPCuhLx66QZU4egXEtJw9lM=","sha256":"'
        + "ab" * 32
        + '"}',
        "lVzvPQ9E6xLt/KVsmTzLqEn+FcqMYhmxMXAHfbP4+INc34wuSSqWRVceZPWEbtr1pwRxzrH6M9RX6rzddO3UDw==",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name: str) -> None:
    message, payload, signature = GOLDEN[name]
    assert sign(message, HUB) == Envelope(PURPOSES[type(message)], payload, signature)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_round_trip(message: Any) -> None:
    wire = msgspec.json.encode(sign(message, HUB))
    assert open_signed(msgspec.json.decode(wire, type=Envelope), type(message), HUB.public, "d1") == message


def test_every_message_has_a_purpose_of_its_own() -> None:
    assert set(PURPOSES) == {type(message) for message, *_ in GOLDEN.values()}
    assert len(set(PURPOSES.values())) == len(PURPOSES)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_not_for_another_device_purpose_or_from_another_key(message: Any) -> None:
    envelope, kind = sign(message, HUB), type(message)
    assert code_of(Refused, open_signed, envelope, kind, HUB.public, "d2") == "signed.device"
    assert code_of(Refused, open_signed, envelope, kind, HUB.public, "") == "signed.device"
    other = SigningKey(bytes(32))
    assert code_of(Tampered, open_signed, envelope, kind, other.public, "d1") == "envelope.signature"
    for wrong in PURPOSES:
        if wrong is not kind:
            assert code_of(Tampered, open_signed, envelope, wrong, HUB.public, "d1") == "envelope.purpose"
            renamed = Envelope(PURPOSES[wrong], envelope.payload, envelope.signature)
            assert code_of(Tampered, open_signed, renamed, wrong, HUB.public, "d1") == "envelope.signature"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        canonical({**msgspec.to_builtins(LEASE), "extra": 1}),
        canonical({k: v for k, v in msgspec.to_builtins(LEASE).items() if k != "actions"}),
        canonical({**msgspec.to_builtins(LEASE), "actions": "200"}),
        canonical(LEASE).replace(b"200", b"200.5"),
        canonical(LEASE) + b"}",
    ],
)
def test_signed_but_malformed(payload: bytes) -> None:
    assert code_of(BadInput, open_signed, seal("lease", payload, HUB), Lease, HUB.public, "d1") == "signed.form"


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.integers(-(2**63), 2**63 - 1)


@given(st.builds(Lease, TEXT, st.just("d1"), NUMBER, NUMBER, NUMBER, NUMBER))
def test_any_lease_round_trips(lease: Lease) -> None:
    assert open_signed(sign(lease, HUB), Lease, HUB.public, "d1") == lease


# --- the manifest -------------------------------------------------------------------------------------------------

POLICY = '@id("all") permit (principal, action, resource);'
SCHEMA = """entity Device; entity Tool;
action execute, execute_unattended appliesTo { principal: [Device], resource: [Tool], context: { n: Long } };"""
PLAYBOOK = """playbook: sorting
version: 1
owner: Clerks
trigger: {folder: inbox}
inputs: {number: {required: true}, words: {required: true}}
business_key: [number]
lanes: [{id: easy, label: Easy}]
fallback: easy
steps: [{id: decide, planner: triage, tools: [register.decide], prompt: sorting@1}]
approvals: {roles: [clerk]}
"""
FILES = {
    "policy.cedar": POLICY.encode(),
    "schema.cedarschema": SCHEMA.encode(),
    "playbooks/sorting.yaml": PLAYBOOK.encode(),
    "prompts/sorting@1.txt": b"Sort this: <<< [[text]] >>>\n[[field]]:",
}
MODELS: list[dict[str, Any]] = [
    {"name": "small", "kind": "language", "sha256": "ab" * 32, "size": 10, "source": "file:x"},
    {"name": "large", "kind": "language", "sha256": "cd" * 32, "size": 20, "source": "file:y"},
    {"name": "minilm", "kind": "embedder", "sha256": "ef" * 32, "size": 30, "source": "file:z"},
]
MANIFEST: dict[str, Any] = {
    "release": 3,
    "made_at": T,
    "policy": "policy.cedar",
    "schema": "schema.cedarschema",
    "playbooks": {"sorting": "playbooks/sorting.yaml"},
    "prompts": {"sorting@1": "prompts/sorting@1.txt"},
    "models": MODELS,
    "files": {path: hex_sha256(data) for path, data in FILES.items()},
}


def opened(manifest: dict[str, Any] = MANIFEST, files: dict[str, bytes] = FILES) -> Release:
    return open_release(json.dumps(manifest).encode(), files)


def test_a_whole_release() -> None:
    release = opened()
    assert release.number == 3
    assert release.prompts == {"sorting@1": "Sort this: <<< [[text]] >>>\n[[field]]:"}
    assert release.policy.about == {"all": ""}
    large = release.permitted("cd" * 32)
    assert large is not None and large.name == "large"
    assert release.permitted("00" * 32) is None
    assert read_manifest(canonical(release.manifest)) == release.manifest


@pytest.mark.parametrize("path", sorted(FILES))
def test_every_file_is_needed(path: str) -> None:
    files = {name: data for name, data in FILES.items() if name != path}
    with pytest.raises(BadInput) as caught:
        opened(files=files)
    assert (caught.value.code, caught.value.where) == ("release.file", path)
    with pytest.raises(BadInput) as caught:
        opened(files=FILES | {path: b"\xff"})
    assert (caught.value.code, caught.value.where) == ("release.encoding", path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../x",
        "a/./x",
        "a//x",
        "a/b/c",
        "a\\b",
        "C:x",
        ".x",
        "a/.x",
        "A",
        "a\n",
        "a\x00",
        "é",
        "~",
        "a/",
    ],
)
def test_paths_stay_in_their_folder(path: str) -> None:
    for change in (
        {"policy": path},
        {"schema": path},
        {"playbooks": {"sorting": path}},
        {"prompts": {"sorting@1": path}},
        {"files": MANIFEST["files"] | {path: "ab" * 32}},
    ):
        assert code_of(BadInput, opened, MANIFEST | change) == "release.form"


@pytest.mark.parametrize(
    "change",
    [
        {"release": 0},
        {"release": -1},
        {"release": "3"},
        {"release": 3.5},
        {"release": 2**64},
        {"made_at": None},
        {"extra": 1},
        {"files": {"policy.cedar": "AB" * 32}},
        {"files": {"policy.cedar": "ab" * 31}},
        {"files": {"policy.cedar": "ab" * 32 + "\n"}},
        {"models": [MODELS[0] | {"name": "../x"}]},
        {"models": [MODELS[0] | {"name": "a/b"}]},
        {"models": [MODELS[0] | {"name": ""}]},
        {"models": [MODELS[0] | {"kind": "vision"}]},
        {"models": [MODELS[0] | {"size": 0}]},
        {"models": [MODELS[0] | {"sha256": ""}]},
        {"models": [MODELS[0] | {"more": 1}]},
    ],
)
def test_malformed_manifests(change: dict[str, Any]) -> None:
    assert code_of(BadInput, opened, MANIFEST | change) == "release.form"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_manifest(data: bytes) -> None:
    assert code_of(BadInput, read_manifest, data) == "release.form"


def test_what_must_fit_together() -> None:
    renamed = MANIFEST | {"playbooks": {"other": "playbooks/sorting.yaml"}}
    assert code_of(BadInput, opened, renamed) == "release.playbook-name"
    assert code_of(BadInput, opened, MANIFEST | {"prompts": {}}) == "release.prompt"
    assert code_of(BadInput, opened, MANIFEST | {"models": [MODELS[0], MODELS[0]]}) == "release.model-twice"
    assert code_of(BadInput, opened, MANIFEST, FILES | {"policy.cedar": b"permit("}) == "policy.parse"
    assert code_of(BadInput, opened, MANIFEST, FILES | {"playbooks/sorting.yaml": b"a: ["}) == "playbook.yaml"


CHILD = """playbook: child
version: 1
owner: Clerks
trigger: {manual: true}
inputs: {number: {required: true}, words: {}}
business_key: [number]
steps: [{id: decide, tool: register.decide}]
approvals: {roles: [clerk]}
"""
PARENT = CHILD.replace("child", "parent").replace(
    "{id: decide, tool: register.decide}", '{id: kid, run: child, inputs: {number: "${inputs.number}"}}'
)
ASSISTED = """playbook: child
version: 1
owner: Clerks
trigger: {assistant: true}
inputs: {}
business_key: []
steps: [{id: act, planner: assistant, tools: [register.decide]}]
approvals: {roles: [clerk]}
"""


def with_children(parent: str, child: str = CHILD) -> Release:
    books = {"parent": "playbooks/parent.yaml", "child": "playbooks/child.yaml"}
    files = {"playbooks/parent.yaml": parent.encode(), "playbooks/child.yaml": child.encode()}
    return opened(MANIFEST | {"playbooks": MANIFEST["playbooks"] | books}, FILES | files)


def test_a_playbook_that_runs_another() -> None:
    assert set(with_children(PARENT).playbooks) == {"child", "parent", "sorting"}
    assert code_of(BadInput, with_children, PARENT.replace("run: child", "run: nobody")) == "release.playbook"


@pytest.mark.parametrize(
    ("parent", "child", "said"),
    [
        (
            PARENT.replace("{number:", "{nummer:", 2).replace("{nummer: {req", "{number: {req"),
            CHILD,
            "no input 'nummer'",
        ),
        (PARENT.replace('{number: "$', '{words: "$'), CHILD, "needs the input 'number'"),
        (PARENT, ASSISTED, "only an assistant"),
        (PARENT.replace("run: child", "run: parent"), CHILD, "for ever"),
        (PARENT, PARENT.replace("parent", "other").replace("child", "parent").replace("other", "child"), "for ever"),
    ],
)
def test_a_playbook_that_cannot_be_run_so(parent: str, child: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        with_children(parent, child)
    assert caught.value.code == "release.child" and said in caught.value.message
    assert caught.value.where in ("playbooks/parent.yaml: kid", "playbooks/child.yaml: kid")


# --- the page -----------------------------------------------------------------------------------------------------

PAGE = Path(shared.__file__).parent / "spec" / "release.md"


def test_the_examples_on_the_page_are_true() -> None:
    """The page's envelopes verify with the page's key, and its manifest parses."""
    blocks = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    kinds = {purpose: kind for kind, purpose in PURPOSES.items()}
    golden = {(envelope, payload) for _, payload, envelope in GOLDEN.values()}
    seen = set()
    for block in blocks:
        found = json.loads(block)
        if "purpose" in found:
            envelope = msgspec.convert(found, Envelope)
            open_signed(envelope, kinds[envelope.purpose], HUB.public, "d1")
            seen.add(envelope.purpose)
            golden.discard((envelope.signature, envelope.payload))
        elif "made_at" in found:
            assert read_manifest(block.encode()).release == found["release"]
            seen.add("manifest")
    assert seen == {*PURPOSES.values(), "manifest"} and golden == set(), "every golden envelope is shown"
    assert HUB.public.text in PAGE.read_text(encoding="utf-8")
