"""The hub's HTTP for machines: enrolment, repository, the operator's own door, and who is refused at the gate."""

from __future__ import annotations

import json

import msgspec
import pytest
from starlette.datastructures import Headers

from server import web
from shared.errors import BadInput, Conflict, Refused, Tampered, Unavailable
from shared.keys import Envelope
from tests.fakes import FakeDevice
from tests.server.conftest import Serving

JSON = {"Content-Type": "application/json"}


def post(serving: Serving, path: str, body: object, **headers: str) -> tuple[int, dict[str, str]]:
    status, _, data = serving.request("POST", path, msgspec.json.encode(body), JSON | headers)
    return status, json.loads(data)


def admin(serving: Serving) -> dict[str, str]:
    return {"Authorization": f"Bearer {(serving.hub.config.home / 'admin.token').read_text().strip()}"}


def test_joining_over_http(serving_hub: Serving) -> None:
    token = serving_hub.hub.devices.issue_token("clara", 60)
    device = FakeDevice(serving_hub.hub.hublog.clock)
    request = device.request(token)
    status, answer = post(serving_hub, "/api/join", request)
    assert status == 200
    joined = device.enrolled(msgspec.convert(answer, Envelope))
    assert json.loads(joined.root)["signed"]["_type"] == "root"
    assert joined.minimum["timestamp"] >= 1
    status, answer = post(serving_hub, "/api/join", request)
    assert (status, answer["code"], answer["kind"]) == (403, "token.used", "Refused")
    assert answer["advice"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "http.body"),
        (b"[]", 400, "http.body"),
        (b'{"token": 1}', 400, "http.body"),
        (b"\xff\xfe", 400, "http.body"),
        (b" " * 20_000, 413, "http.too-large"),
    ],
)
def test_a_request_that_is_no_join_is_refused(serving_hub: Serving, body: bytes, status: int, code: str) -> None:
    found, _, data = serving_hub.request("POST", "/api/join", body, JSON)
    assert (found, json.loads(data)["code"]) == (status, code)


def test_guessing_over_http_is_slowed_by_address(serving_hub: Serving) -> None:
    device = FakeDevice(serving_hub.hub.hublog.clock)
    wrong = device.request("0" * 64 + "." + serving_hub.hub.hublog.key.public.fingerprint)
    seen = [post(serving_hub, "/api/join", wrong, **{"X-Forwarded-For": f"10.0.0.{n}"}) for n in range(22)]
    assert [answer["code"] for _, answer in seen] == ["token.unknown"] * 20 + ["join.throttled"] * 2
    assert seen[-1][0] == 429


def test_the_repository_is_served_and_nothing_beside_it(serving_hub: Serving) -> None:
    repository = serving_hub.hub.config.repository
    status, _, data = serving_hub.request("GET", "/tuf/metadata/timestamp.json")
    assert (status, data) == (200, (repository / "metadata" / "timestamp.json").read_bytes())
    status, _, data = serving_hub.request("GET", "/tuf/metadata/1.root.json", headers={"Range": "bytes=5-9"})
    assert (status, data) == (206, (repository / "metadata" / "1.root.json").read_bytes()[5:10])
    for path in (
        "/tuf/metadata/2.root.json",
        "/tuf/metadata/",
        "/tuf/metadata/../publishing.json",
        "/tuf/metadata/%2e%2e/%2e%2e/keys/hub.key",
        "/tuf/metadata/..%2f..%2fadmin.token",
        "/tuf/targets/nothing",
    ):
        status, _, data = serving_hub.request("GET", path)
        assert (status, json.loads(data)["code"]) == (404, "http.not-found"), path
    assert serving_hub.request("POST", "/tuf/metadata/timestamp.json", b"")[0] == 404


def test_the_operators_door_needs_the_secret(serving_hub: Serving) -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer \u00e9".encode().decode("latin-1")}):
        for path in ("token", "publish", "users", "revoke", "rollout"):
            status, answer = post(serving_hub, f"/api/admin/{path}", {"ttl_s": 60}, **headers)
            assert (status, answer["code"]) == (401, "admin.token")
    assert serving_hub.request("GET", "/api/admin/devices")[0] == 401
    assert serving_hub.hub.hublog.size == 1


def test_the_operator_issues_tokens_adds_users_and_revokes(serving_hub: Serving) -> None:
    status, answer = post(serving_hub, "/api/admin/token", {"ttl_s": 60}, **admin(serving_hub))
    assert status == 200
    device = FakeDevice(serving_hub.hub.hublog.clock)
    device.enrolled(serving_hub.hub.devices.join(device.request(answer["token"])))
    status, _, data = serving_hub.request("GET", "/api/admin/devices", headers=admin(serving_hub))
    assert [one["id"] for one in json.loads(data)] == [device.id]
    user = {"name": "clara", "password": "correct horse battery", "roles": ["clerk"]}
    assert post(serving_hub, "/api/admin/users", user, **admin(serving_hub))[0] == 200
    assert post(serving_hub, "/api/admin/users", user, **admin(serving_hub))[1]["code"] == "user.exists"
    assert post(serving_hub, "/api/admin/revoke", {"device": device.id}, **admin(serving_hub))[0] == 200
    assert serving_hub.hub.devices.get(device.id).state == "revoked"
    assert post(serving_hub, "/api/admin/revoke", {"device": "d-no"}, **admin(serving_hub))[0] == 404
    status, answer = post(serving_hub, "/api/admin/publish", {}, **admin(serving_hub))
    assert (status, answer["code"]) == (400, "release.workspace")


def test_health_hosts_and_origins(serving_hub: Serving) -> None:
    port = serving_hub.address.rpartition(":")[2]
    assert serving_hub.request("GET", "/healthz")[0] == 200
    assert serving_hub.request("GET", "/healthz", headers={"Host": f"LocalHost:{port}"})[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1", f"127.0.0.1.evil.example:{port}"):
        status, _, data = serving_hub.request("GET", "/healthz", headers={"Host": host})
        assert (status, json.loads(data)["code"]) == (421, "http.host"), host
    for origin, expected in ((serving_hub.address, 400), ("http://evil.example", 403), ("null", 403)):
        assert serving_hub.request("POST", "/api/join", b"", {"Origin": origin})[0] == expected
    assert serving_hub.request("GET", "/healthz", headers={"Origin": "http://evil.example"})[0] == 200


def test_a_host_must_be_named_exactly_once() -> None:
    hosts = frozenset({"127.0.0.1:8400"})
    good = Headers(raw=[(b"host", b"127.0.0.1:8400")])
    twice = Headers(raw=[(b"host", b"127.0.0.1:8400"), (b"host", b"evil")])
    assert web.judge("GET", good, hosts) is None
    for headers in (twice, Headers(raw=[]), Headers(raw=[(b"host", b"")])):
        error = web.judge("GET", headers, hosts)
        assert error is not None and error.code == "http.host"
    two = Headers(raw=[(b"host", b"127.0.0.1:8400"), (b"origin", b"http://127.0.0.1:8400"), (b"origin", b"http://e")])
    assert web.judge("GET", two, hosts) is None
    for method in ("POST", "DELETE", ""):
        refused = web.judge(method, two, hosts)
        assert refused is not None and refused.code == "http.origin"


@pytest.mark.parametrize(
    ("kind", "status"), [(BadInput, 400), (Refused, 403), (Tampered, 422), (Conflict, 409), (Unavailable, 503)]
)
def test_each_kind_of_error_has_its_status(
    kind: type[BadInput | Refused | Tampered | Conflict | Unavailable], status: int
) -> None:
    error = kind("a.code", "it happened", advice="do this", where="line 3")
    assert web.status_of(error) == status
    assert web.body_of(error) == {
        "kind": kind.__name__,
        "code": "a.code",
        "message": "it happened",
        "advice": "do this",
        "where": "line 3",
    }


def test_a_hub_behind_a_name_answers_to_it(serving_hub: Serving) -> None:
    config = serving_hub.hub.config.model_copy(update={"hosts": ["Hub.City.Example"], "host": "0.0.0.0"})
    assert "hub.city.example" in config.allowed_hosts(8400)
    assert config.address(8400) == "http://127.0.0.1:8400"
    assert config.model_copy(update={"host": "::1"}).address(1) == "http://[::1]:1"
