"""Who may sign in, how guessing is slowed, and how sessions end."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.store import HubLog
from server.users import Users
from shared.entries import UserAdded, read
from shared.errors import BadInput, Conflict, Refused
from tests.server.conftest import Clock

GOOD = "correct horse battery"


@pytest.fixture
def users(hublog: HubLog) -> Users:
    made = Users(hublog, session_seconds=600)
    made.add("clara", GOOD, ["clerk", "admin"])
    return made


def test_a_user_signs_in_with_their_password_only(users: Users, hublog: HubLog, home: Path) -> None:
    assert users.verify("clara", GOOD).roles == ("clerk", "admin")
    for name, password in (("clara", "wrong password"), ("clara", ""), ("nobody", GOOD), ("Clara", GOOD)):
        with pytest.raises(Refused) as caught:
            users.verify(name, password)
        assert caught.value.code == "user.credentials"
    assert isinstance(read(hublog.entries()[-1][1]).facts, UserAdded)
    assert all(GOOD.encode() not in path.read_bytes() for path in home.glob("hub.db*"))
    assert [user.name for user in users.list()] == ["clara"]


def test_guessing_is_slowed_by_name_and_by_address(users: Users, clock: Clock) -> None:
    for n in range(10):
        with pytest.raises(Refused):
            users.verify("clara", f"guess {n}", client="10.0.0.1")
    with pytest.raises(Refused) as caught:
        users.verify("clara", GOOD)
    assert caught.value.code == "user.throttled"
    clock.step(301)
    assert users.verify("clara", GOOD).name == "clara"


def test_sessions_are_kept_hashed_end_and_expire(users: Users, clock: Clock, home: Path) -> None:
    user = users.verify("clara", GOOD)
    token, session = users.create_session(user)
    other, _ = users.create_session(user)
    found = users.session(token)
    assert found == session and found.csrf and found.user == user
    assert users.session(token[:-1] + ("0" if token[-1] != "0" else "1")) is None
    assert users.session("") is None
    assert all(token.encode() not in path.read_bytes() for path in home.glob("hub.db*"))
    users.end_session(token)
    users.end_session("unknown")
    assert users.session(token) is None and users.session(other) is not None
    clock.step(601)
    assert users.session(other) is None


@pytest.mark.parametrize(
    ("name", "password", "roles", "code"),
    [
        ("", GOOD, ["clerk"], "user.name"),
        ("Clara", GOOD, ["clerk"], "user.name"),
        ("a b", GOOD, ["clerk"], "user.name"),
        ("dan", "short", ["clerk"], "user.password"),
        ("dan", "x" * 2000, ["clerk"], "user.password"),
        ("dan", GOOD, [], "user.roles"),
        ("dan", GOOD, ["clerk", "clerk"], "user.roles"),
        ("dan", GOOD, ["Clerk!"], "user.roles"),
    ],
)
def test_bad_users_are_refused(users: Users, name: str, password: str, roles: list[str], code: str) -> None:
    with pytest.raises(BadInput) as caught:
        users.add(name, password, roles)
    assert caught.value.code == code


def test_a_name_is_taken_once(users: Users, hublog: HubLog) -> None:
    size = hublog.size
    with pytest.raises(Conflict) as caught:
        users.add("clara", GOOD, ["clerk"])
    assert caught.value.code == "user.exists"
    assert hublog.size == size
