"""Who may sign: what the root names, and how the next root differs. Pure judgement; ``repository`` writes.

The root's keys are people's and kept elsewhere. They sign the root, and ``targets``, the list that says who may
publish: so a thief of every key at the hub can publish nothing where people sign releases, and cannot change that.
"""

from __future__ import annotations

import msgspec
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # exported, but not in __all__
from tuf.api.metadata import (  # type: ignore[attr-defined]  # tuf builds its __all__ from names mypy cannot follow
    DelegatedRole,
    Delegations,
    Key,
    Root,
    Targets,
)

from server.releases.keys import ONLINE, ROOT_THRESHOLD, KeyFolder
from server.releases.state import PATHS, State, key_line, tuf_key
from shared.errors import BadInput
from shared.keys import read_vkey
from shared.offer import Quorum, keys_of

LEAST_ROOT_KEYS = 3  # one can be lost without losing every device
MOST_KEYS = 9


class RootChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the next root changes; nothing renews what there is.

    ``add``: root keys, each on its one line. ``remove``: root keys, by name or fingerprint. ``new_keys``: roles for
    which the hub makes itself a new key. ``people``: for ``policy`` or ``model``, who signs; without keys, the hub.
    """

    add: list[str] = []
    remove: list[str] = []
    new_keys: list[str] = []
    people: dict[str, Quorum] = {}


def first(signers: list[CryptoSigner], keys: KeyFolder) -> tuple[Root, Targets]:
    """The first root and the delegations under it."""
    root = _root([signer.public_key for signer in signers], keys, fresh=[])
    delegations = _delegations({role: _by_hub(role, keys, fresh=False) for role in PATHS})
    return root, Targets(version=1, delegations=delegations)


def apply(state: State, change: RootChange, keys: KeyFolder) -> None:
    """Make ``state`` as the change has it, at the versions it has. Raises ``BadInput('root.change')``."""
    for role in change.new_keys:
        if role not in ONLINE or (role in PATHS and state.by_people(role)):
            raise _bad(f"the hub has no key for {role!r}", "name policy, model, snapshot or timestamp")
    root = _root(_root_keys(state.root, change), keys, fresh=change.new_keys)
    root.version = state.root.version
    delegated = {role: _signers(state, role, change, keys) for role in PATHS}
    if unknown := set(change.people) - set(PATHS):
        raise _bad(f"people do not sign for {min(unknown)!r}", "name policy or model")
    state.root = root
    state.lists["targets"].signed.delegations = _delegations(delegated)


def _root_keys(root: Root, change: RootChange) -> list[Key]:
    held = {keyid: tuf_key(key_line(root.keys[keyid])) for keyid in root.roles["root"].keyids}
    for wanted in change.remove:
        found = [keyid for keyid, key in held.items() if wanted in _called(key)]
        if len(found) != 1:
            raise _bad(f"there is no one root key {wanted!r}", "`outrider hub root show` lists them")
        del held[found[0]]
    for text in change.add:
        key = tuf_key(text)
        held[key.keyid] = key
    if not LEAST_ROOT_KEYS <= len(held) <= MOST_KEYS:
        raise _bad(
            f"the root would have {len(held)} keys, and needs {LEAST_ROOT_KEYS} to {MOST_KEYS}",
            "add a key in the same offer that removes one",
        )
    return _differently_named(list(held.values()))


def _signers(state: State, role: str, change: RootChange, keys: KeyFolder) -> tuple[list[Key], int]:
    given = change.people.get(role)
    if given is None and state.by_people(role):
        given = state.quorum(role)
    if given is None or not given.keys:
        return _by_hub(role, keys, fresh=role in change.new_keys)
    if len(keys_of(given)) != len(given.keys) or not 1 <= given.threshold <= len(given.keys) <= MOST_KEYS:
        raise _bad(
            f"{given.threshold} of {len(keys_of(given))} different keys cannot sign for {role}",
            f"give at most {MOST_KEYS} keys, each once, and a threshold between 1 and their number",
        )
    return _differently_named([tuf_key(text) for text in given.keys]), given.threshold


def _by_hub(role: str, keys: KeyFolder, *, fresh: bool) -> tuple[list[Key], int]:
    return [keys.coming(role, fresh=fresh)], 1


def _root(root_keys: list[Key], keys: KeyFolder, *, fresh: list[str]) -> Root:
    root = Root(version=1, consistent_snapshot=True)
    for role in ("root", "targets"):
        for key in root_keys:
            root.add_key(key, role)
        root.roles[role].threshold = ROOT_THRESHOLD
    for role in ("snapshot", "timestamp"):
        root.add_key(keys.coming(role, fresh=role in fresh), role)
    return root


def _delegations(signers: dict[str, tuple[list[Key], int]]) -> Delegations:
    # Terminating: about what one role may publish, no role after it is asked.
    roles = {
        role: DelegatedRole(role, [key.keyid for key in keys], threshold, terminating=True, paths=list(PATHS[role]))
        for role, (keys, threshold) in signers.items()
    }
    return Delegations({key.keyid: key for keys, _ in signers.values() for key in keys}, roles)


def _called(key: Key) -> tuple[str, str]:
    name, public = read_vkey(key_line(key))
    return name, public.fingerprint


def _differently_named(keys: list[Key]) -> list[Key]:
    names = [_called(key)[0] for key in keys]
    if len(set(names)) != len(names):
        raise _bad("two keys have the same name", "people must be able to tell them apart: make one with another name")
    return keys


def _bad(said: str, advice: str) -> BadInput:
    return BadInput("root.change", said, advice=advice)
