"""What people are asked to sign, and their signatures: files that travel between a hub and whoever holds a key.

An *offer* holds the exact bytes of TUF metadata (``payloads``, by role) and whose signatures they want (``quorums``).
The hub makes it; people sign it where their private keys are, and hand in a small *signature* file. Nothing in an offer
is believed by the person's side but the payloads themselves: ``check_offer`` makes sure that each says only what its
role may say, so that a hub that was taken over cannot have one thing shown and another one signed. Spec page:
``shared/spec/release.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from shared.codec import b64, canonical, hex_sha256, parse, unb64
from shared.errors import BadInput, Conflict, Refused, Tampered
from shared.keys import PublicKey, SigningKey, read_vkey
from shared.release import Manifest

# TUF lets a key carry further fields. This one says whose it is; a key of the hub itself has none.
NAME_FIELD = "x-outrider-name"
_PREFIX = {"policy": "release/", "model": "models/"}


class _Role(msgspec.Struct, frozen=True):
    keyids: list[str]
    threshold: int


class _Delegated(_Role, frozen=True):
    name: str


class _Key(msgspec.Struct, frozen=True):
    keyval: dict[str, str]
    owner: str = msgspec.field(name=NAME_FIELD, default="hub")


class _Delegations(msgspec.Struct, frozen=True):
    keys: dict[str, _Key]
    roles: list[_Delegated]


class _Target(msgspec.Struct, frozen=True):
    length: int
    hashes: dict[str, str]


class _Payload(msgspec.Struct, frozen=True):
    """The signed part of TUF metadata, as far as people are shown it."""

    kind: str = msgspec.field(name="_type")
    version: int
    expires: str
    keys: dict[str, _Key] = {}
    roles: dict[str, _Role] = {}
    targets: dict[str, _Target] = {}
    delegations: _Delegations | None = None


class Quorum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``threshold`` of these keys (``shared.keys.vkey``) must sign."""

    threshold: int
    keys: list[str]


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One person's signatures: ``key`` is theirs, ``signatures`` maps roles to base64 over the payload's bytes."""

    offer: str
    key: str
    signatures: dict[str, str]

    def data(self) -> bytes:
        return canonical(self) + b"\n"


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``number`` is the release's, or the root's version; ``at`` microseconds since 1970 UTC. ``manifest`` is the
    release's ``release.json``, or empty. A root that replaces root keys wants two quorums: the old keys and the new."""

    kind: Literal["release", "root"]
    number: int
    at: int
    by: str
    manifest: str
    payloads: dict[str, str]
    quorums: dict[str, list[Quorum]]

    @property
    def id(self) -> str:
        return hex_sha256(canonical(self))[:16]

    def data(self) -> bytes:
        """The file that people get."""
        return canonical(self) + b"\n"

    def roles_of(self, key: PublicKey) -> list[str]:
        """Which payloads want this key's signature."""
        return [role for role, wanted in self.quorums.items() if any(key in keys_of(quorum) for quorum in wanted)]


def keys_of(quorum: Quorum) -> set[PublicKey]:
    """Each key once, whatever it is called: one person is one signature."""
    return {read_vkey(text)[1] for text in quorum.keys}


def read_offer(data: bytes) -> Offer:
    """An offer as it was handed over. Raises ``BadInput('sign.form')``, ``Tampered('sign.payload')``."""
    offer = parse(data, Offer, code="sign.form", what="the offer")
    check_offer(offer)
    return offer


def read_signature(data: bytes) -> Signature:
    return parse(data, Signature, code="sign.form", what="the signature file")


def sign_offer(offer: Offer, name_and_key: str, key: SigningKey) -> Signature:
    """Sign every payload that wants this key. Raises ``Refused('sign.not-wanted')``."""
    roles = offer.roles_of(key.public)
    if not roles:
        raise _not_wanted(name_and_key)
    signatures = {role: b64(key.sign(offer.payloads[role].encode())) for role in roles}
    return Signature(offer.id, name_and_key, signatures)


def judge(offer: Offer, held: Iterable[Signature], given: Signature) -> None:
    """Whether one more signature counts: for this offer, by a key it wants, not yet there, and right.

    Raises ``BadInput('sign.other-offer')``, ``Refused('sign.not-wanted')``, ``Conflict('sign.twice')``,
    ``Tampered('sign.wrong')``.
    """
    if given.offer != offer.id:
        raise BadInput("sign.other-offer", "this signature is for another offer", advice="sign this one")
    name, key = read_vkey(given.key)
    roles = offer.roles_of(key)
    if not roles or set(given.signatures) != set(roles):
        raise _not_wanted(name)
    if any(read_vkey(each.key)[1] == key for each in held):
        raise Conflict("sign.twice", f"the key of {name} has signed already", advice="somebody else must sign")
    for role in roles:
        signature = unb64(given.signatures[role], what="the signature")
        key.verify(signature, offer.payloads[role].encode(), code="sign.wrong", what=f"the {role} list by {name}")


def missing(offer: Offer, held: Sequence[Signature]) -> dict[str, int]:
    """How many signatures each role still wants; empty when all are there. ``held`` were judged."""
    signed = {read_vkey(each.key)[1] for each in held}
    wanted = {
        role: max(quorum.threshold - len(keys_of(quorum) & signed) for quorum in quorums)
        for role, quorums in offer.quorums.items()
    }
    return {role: count for role, count in wanted.items() if count > 0}


# --- what the payloads say -----------------------------------------------------------------------------------------


def check_offer(offer: Offer) -> None:
    """That each payload says only what its role may: raises ``Tampered('sign.payload')``.

    Lists of all roles look alike to TUF. Without this, a person who means to sign a list of releases with a key that
    counts for the root's lists too could be given a list that hands the hub over.
    """
    if set(offer.payloads) != set(offer.quorums):
        raise _odd("its payloads and the keys it wants do not fit together")
    for role, text in offer.payloads.items():
        if not _fits(role, _payload(text)):
            raise _odd(f"what it calls the {role} list is something else")
    if offer.kind == "release":
        _check_release(offer)


def files_of(offer: Offer) -> dict[str, str]:
    """Path to hex SHA-256 of each file of the release in an offer, ``release.json`` among them."""
    return _manifest(offer).files | {"release.json": hex_sha256(offer.manifest.encode())}


def check_files(offer: Offer, files: dict[str, bytes]) -> Manifest:
    """That the release holds exactly these files (path to bytes); its manifest. Raises ``Refused('sign.files')``."""
    manifest = _manifest(offer)
    listed = manifest.files
    here = {path: hex_sha256(data) for path, data in files.items()}
    for path in sorted(listed.keys() | here.keys()):
        if listed.get(path) != here.get(path):
            raise Refused(
                "sign.files",
                f"{path} in the offer is not the file that you have",
                advice="do not sign; compare the folder with what was proposed",
                where=path,
            )
    return manifest


def check_since(offer: Offer, before: Offer) -> None:
    """That nothing is listed anew but this release and its models: raises ``Refused('sign.more')`` naming a path.

    A list vouches for every release in it, and whoever signs sees the files of the newest only.
    """
    for role, text in offer.payloads.items():
        listed, held = _payload(text).targets, _payload(before.payloads.get(role, _NOTHING)).targets
        own = f"release/{offer.number}/" if role == "policy" else "models/"
        for path in sorted(listed.keys() | held.keys()):
            if listed.get(path) != held.get(path) and (path in held or not path.startswith(own)):
                raise Refused(
                    "sign.more",
                    f"the {role} list says something else of {path} than the offer before it",
                    advice="do not sign, unless other releases were signed in between and you have seen them",
                    where=path,
                )


def said(offer: Offer) -> list[str]:
    """The offer in lines for a person, from what is signed alone."""
    lines = []
    if offer.kind == "release":
        lines.append(f"release {offer.number}")
        lines += [f"  {sha256[:16]}  {path}" for path, sha256 in sorted(files_of(offer).items())]
        lines += [f"  model {one.name}  {one.sha256[:16]}  {one.size} bytes" for one in _manifest(offer).models]
        lines += ["  devices may hand models to each other"] if _manifest(offer).peers else []
    for role, text in offer.payloads.items():
        payload = _payload(text)
        lines.append(f"{role} list, version {payload.version}, until {payload.expires}")
        for name, given in sorted(payload.roles.items()):
            lines.append(f"  {name}: {given.threshold} of {_names(payload.keys, given.keyids)}")
        if payload.delegations is not None:
            keys = payload.delegations.keys
            for each in payload.delegations.roles:
                lines.append(f"  {each.name}: {each.threshold} of {_names(keys, each.keyids)}")
        if role in _PREFIX:
            lines.append(f"  {_counted(offer, role, payload)}")
    # Whoever made the offer chose the names in it: none may move a terminal's cursor.
    return ["".join(letter if letter.isprintable() else "?" for letter in line) for line in lines]


def _counted(offer: Offer, role: str, payload: _Payload) -> str:
    """What a list holds besides what is shown, with a digest that two people, or two days, can compare."""
    own = f"release/{offer.number}/" if offer.kind == "release" else "-"
    rest = {path: target for path, target in payload.targets.items() if not path.startswith(own)}
    things = {path.split("/")[1] for path in rest}
    return f"it goes on to vouch for {len(things)} other {role} entries, digest {hex_sha256(canonical(rest))[:16]}"


def _names(keys: dict[str, _Key], keyids: list[str]) -> str:
    """Fingerprints first: a name is what the hub says, a fingerprint is what the key is."""
    shown = []
    for keyid in keyids:
        key = keys.get(keyid)
        if key is None:
            raise _odd("it counts a key that it does not show")
        try:
            public = PublicKey(bytes.fromhex(key.keyval["public"]))
        except (KeyError, ValueError) as error:
            raise _odd("it counts a key that is none") from error
        shown.append(f"{public.fingerprint} ({key.owner})")
    return ", ".join(shown)


def _fits(role: str, payload: _Payload) -> bool:
    if role == "root":
        return payload.kind == "root"
    if role == "targets":
        return payload.kind == "targets" and not payload.targets and payload.delegations is not None
    return (
        role in _PREFIX
        and payload.kind == "targets"
        and payload.delegations is None
        and all(path.startswith(_PREFIX[role]) for path in payload.targets)
    )


def _check_release(offer: Offer) -> None:
    if not offer.payloads.keys() <= _PREFIX.keys():
        raise _odd("a release does not change who may sign")
    if _manifest(offer).release != offer.number:
        raise _odd("its number is not that of its release.json")
    if "policy" in offer.payloads:
        own = f"release/{offer.number}/"
        targets = _payload(offer.payloads["policy"]).targets
        listed = {path.removeprefix(own): target.hashes for path, target in targets.items() if path.startswith(own)}
        if listed != {path: {"sha256": sha256} for path, sha256 in files_of(offer).items()}:
            raise _odd("it shows other files than it lists")


def _payload(text: str) -> _Payload:
    return parse(text, _Payload, code="sign.form", what="what is to be signed")


def _manifest(offer: Offer) -> Manifest:
    return parse(offer.manifest, Manifest, code="sign.form", what="release.json")


def _odd(what: str) -> Tampered:
    return Tampered(
        "sign.payload",
        f"this offer is not what it seems: {what}",
        advice="do not sign; ask the hub's operator how this file came about",
    )


def _not_wanted(name: str) -> Refused:
    return Refused(
        "sign.not-wanted",
        f"the key of {name} has nothing to sign here",
        advice="`outrider hub root show` says whose keys count",
    )


_NOTHING = '{"_type": "targets", "version": 0, "expires": ""}'
