"""People's tokens for programs: hashed, ended, revoked, never more than their owner, and in the hub's log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from server.authoring import Access
from server.authoring.access import MOST, READ, WRITE
from server.store import HubLog
from server.store.authoring_tables import ACCESS_TOKENS
from server.store.tables import USERS
from server.users import Users
from shared.entries import AccessIssued, AccessRevoked, read
from shared.errors import BadInput, OutriderError, Refused
from tests.server.conftest import Clock

DAY = 24 * 3600


@pytest.fixture
def access(hublog: HubLog) -> Access:
    Users(hublog).add("mara", "four unrelated words", ["release"])
    return Access(hublog)


def code(kind: type[OutriderError], act: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        act()
    return caught.value.code


def test_a_token_is_told_once_and_kept_hashed(access: Access, hublog: HubLog) -> None:
    token, kept = access.issue("mara", scopes=[WRITE, READ], seconds=DAY, label="laptop", by="mara")
    assert (kept.user, kept.label, kept.scopes, kept.used_at) == ("mara", "laptop", (READ, WRITE), 0)
    assert access.list("mara") == [kept] and access.list("otto") == []
    with hublog.store.read() as conn:
        (row,) = conn.execute(select(ACCESS_TOKENS)).all()
    assert token.removeprefix("oat_") not in str(row)
    logged = [read(data).facts for _, data in hublog.entries()]
    assert AccessIssued(kept.id, "mara", [READ, WRITE], kept.expires_at, "mara") in logged
    assert token not in str(logged)


def test_it_does_what_its_scopes_and_its_owners_roles_allow(access: Access, hublog: HubLog) -> None:
    token, kept = access.issue("mara", scopes=[READ], seconds=DAY, by="mara")
    user = access.use(token, READ)
    assert (user.name, user.roles) == ("mara", ("release",))
    assert access.get(kept.id).used_at > 0
    assert code(Refused, lambda: access.use(token, WRITE)) == "access.scope"
    with hublog.store.write() as conn:
        conn.execute(USERS.update().values(roles='["clerk"]'))
    assert access.use(token, READ).roles == ("clerk",)


def test_unknown_ended_and_revoked_are_one(access: Access, hublog: HubLog, clock: Clock) -> None:
    assert code(Refused, lambda: access.use("", READ)) == "access.token"
    assert code(Refused, lambda: access.use("oat_" + "0" * 64, READ)) == "access.token"
    token, kept = access.issue("mara", scopes=[READ], seconds=DAY, by="mara")
    clock.step(DAY + 1)
    assert code(Refused, lambda: access.use(token, READ)) == "access.token"
    token, kept = access.issue("mara", scopes=[READ], seconds=DAY, by="mara")
    access.revoke(kept.id, by="mara")
    access.revoke(kept.id, by="mara")
    assert code(Refused, lambda: access.use(token, READ)) == "access.token"
    logged = [read(data).facts for _, data in hublog.entries()]
    assert logged.count(AccessRevoked(kept.id, "mara")) == 1


def test_others_revoke_it_only_as_administrators(access: Access) -> None:
    _, kept = access.issue("mara", scopes=[READ], seconds=DAY, by="mara")
    assert code(Refused, lambda: access.revoke(kept.id, by="otto")) == "access.other"
    access.revoke(kept.id, by="otto", admin=True)
    assert access.get(kept.id).revoked_at > 0
    assert code(BadInput, lambda: access.revoke("acc_none", by="mara")) == "access.unknown"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"scopes": []}, "access.scopes"),
        ({"scopes": ["workspace:publish"]}, "access.scopes"),
        ({"seconds": 59}, "access.time"),
        ({"seconds": 367 * DAY}, "access.time"),
        ({"label": "x" * 101}, "access.label"),
        ({"label": "a\nb"}, "access.label"),
    ],
)
def test_what_makes_no_token(access: Access, given: dict[str, object], told: str) -> None:
    asked: dict[str, object] = {"scopes": [READ], "seconds": DAY, "by": "mara"} | given
    assert code(BadInput, lambda: access.issue("mara", **asked)) == told  # type: ignore[arg-type]  # as a form gives it
    assert access.list() == []


def test_of_nobody_and_too_many(access: Access) -> None:
    assert code(BadInput, lambda: access.issue("nobody", scopes=[READ], seconds=DAY, by="mara")) == "access.user"
    for _ in range(MOST):
        access.issue("mara", scopes=[READ], seconds=DAY, by="mara")
    assert code(Refused, lambda: access.issue("mara", scopes=[READ], seconds=DAY, by="mara")) == "access.too-many"
