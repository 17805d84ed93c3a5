"""Who gets in: by a code once, from this address, with cookie and room together; and everybody else does not."""

from __future__ import annotations

import http.client
import json
import re
import sys
from typing import Any

import httpx
import pytest

from edge_agent.panel.door import CODE_S, REST_S
from tests.edge_agent.panel.kit import Browsing, Office

PAGES = ["/", "/runs", "/approvals", "/memory", "/memory/new", "/memory/forget", "/memory/forgotten", "/memory/tidy",
         "/memory/files", "/memory/export"]  # fmt: skip
FORMS = ["/memory/new", "/memory/forget", "/memory/tidy", "/memory/files", "/memory/items/mem_" + "0" * 24, "/runs/r",
         "/approvals/a"]  # fmt: skip


def asked(office: Office, method: str, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    """A request as it is given, byte by byte: no client of ours that would mend it."""
    connection = http.client.HTTPConnection("127.0.0.1", office.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in ({"Host": f"127.0.0.1:{office.port}"} | headers).items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(b"" if method == "GET" else None)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def shown(browsing: Browsing) -> str:
    """The Cookie header that this browser sends."""
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in browsing.http.cookies.jar)


def test_a_code_opens_the_panel_once_and_sets_a_cookie_that_only_its_own_room_gets(office: Office) -> None:
    url = office.invite()
    assert re.fullmatch(rf"http://127\.0\.0\.1:{office.port}/panel/open\?code=[A-Za-z0-9_-]{{32}}", url)
    status, page, headers = asked(office, "GET", url.removeprefix(office.origin))
    assert status == 200
    cookie = headers["set-cookie"]
    room = re.search(r'content="0;url=(/panel/[A-Za-z0-9_-]{22}/)"', page)
    assert room is not None
    assert re.fullmatch(rf"outrider_panel=[A-Za-z0-9_-]{{43}}; HttpOnly; Path={room[1]}; SameSite=strict", cookie), (
        cookie
    )
    assert "location" not in headers  # a redirect would lose the cookie where another program's page led here
    value = cookie.partition(";")[0]
    assert asked(office, "GET", room[1], Cookie=value)[0] == 200
    assert asked(office, "GET", url.removeprefix(office.origin))[0] == 403
    assert asked(office, "GET", room[1], Cookie=value)[0] == 401, "two have seen the code: what it opened is closed"


def test_a_code_is_good_for_a_minute_and_for_nothing_but_opening(office: Office) -> None:
    url = office.invite()
    code = url.partition("code=")[2]
    assert asked(office, "HEAD", f"/panel/open?code={code}")[0] == 401
    assert asked(office, "GET", f"/panel/{code}/")[0] == 401
    assert asked(office, "GET", "/v1/tools", Authorization=f"Bearer {code}")[0] == 401
    office.seconds += CODE_S
    status, page, headers = asked(office, "GET", f"/panel/open?code={code}")
    assert status == 403 and "outrider panel" in page and "set-cookie" not in headers


@pytest.mark.parametrize("query", ["", "?code=", "?code=x", "?code=%ff", "?code=a&code=b", "?c=1"])
def test_a_wrong_code_opens_nothing(query: str, office: Office) -> None:
    status, page, headers = asked(office, "GET", f"/panel/open{query}")
    assert status == 403 and "not valid" in page and "set-cookie" not in headers


def test_nothing_is_shown_without_a_session(office: Office) -> None:
    browsing, other = office.browse(), office.browse("omar")
    room = browsing.base.removeprefix(office.origin)
    cookie, others = shown(browsing), shown(other)
    wrong = ["", "outrider_panel=", "outrider_panel=x", others, f"{cookie}; {others}", f"x{cookie}", cookie.lower()]
    for path in PAGES:
        for sent in wrong:
            status, page, _ = asked(office, "GET", room + path, Cookie=sent)
            assert status == 401 and "This panel is closed" in page, (path, sent)
        assert asked(office, "GET", f"/panel/{'A' * 22}{path}", Cookie=cookie)[0] == 401
    for path in FORMS:
        status, _, _ = asked(office, "POST", room + path, Origin=office.origin, Content_Length="0")
        assert status == 401
    assert asked(office, "GET", room + "/", Cookie=cookie)[0] == 200


def test_the_agents_token_opens_no_page_and_the_cookie_no_route(office: Office) -> None:
    browsing = office.browse()
    bearer = f"Bearer {office.token}"
    assert asked(office, "GET", browsing.base.removeprefix(office.origin) + "/", Authorization=bearer)[0] == 401
    for path in ("/v1/tools", "/v1/approvals", "/metrics"):
        assert asked(office, "GET", path, Cookie=shown(browsing))[0] == 401
    for path in ("/v1/panel", "/v1/panel/close"):
        status, said, _ = asked(office, "POST", path, Cookie=shown(browsing), Content_Length="0")
        assert status == 401 and json.loads(said)["code"] == "api.token"


STRANGERS = ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1.evil.example:{port}", "[::1]:{port}",
             "0.0.0.0:{port}", "localhost.:{port}"]  # fmt: skip


def test_a_name_that_was_rebound_to_this_address_gets_nothing(office: Office) -> None:
    browsing = office.browse()
    room, cookie = browsing.base.removeprefix(office.origin), shown(browsing)
    code = office.invite().removeprefix(office.origin)
    for host in STRANGERS:
        named = host.format(port=office.port)
        for path in (room + "/", room + "/memory", code, "/panel/panel.css"):
            status, said, headers = asked(office, "GET", path, Host=named, Cookie=cookie)
            assert (status, json.loads(said)["code"]) == (421, "api.host"), (host, path)
            assert "set-cookie" not in headers
        origin = f"http://{named}"
        assert asked(office, "POST", room + "/memory/new", Host=named, Origin=origin, Content_Length="0")[0] == 421
    assert asked(office, "GET", code)[0] == 200, "the code was not used up by strangers"


FOREIGN = ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "https://127.0.0.1:{port}",
           "http://localhost:{port}", "http://127.0.0.1:{port}.evil.example", "http://127.0.0.1:{port}/",
           "chrome-extension://abc", ""]  # fmt: skip


def test_a_form_of_another_page_is_refused(office: Office) -> None:
    browsing = office.browse()
    browsing.get("/memory/new")
    for foreign in (*FOREIGN, None):
        sent = {} if foreign is None else {"Origin": foreign.format(port=office.port)}
        answer = browsing.http.post(
            browsing.base + "/memory/new",
            data={"csrf": browsing.csrf, "text": "x", "kind": "note", "scope": "person"},
            headers=sent,
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "api.origin"), foreign
    for foreign in FOREIGN:
        room = browsing.base.removeprefix(office.origin)
        status, _, headers = asked(
            office, "GET", room + "/memory", Cookie=shown(browsing), Origin=foreign.format(port=office.port)
        )
        assert status == 403 and not any(name.startswith("access-control") for name in headers)
    assert office.memory.count() == 0


def test_the_panel_at_localhost_is_its_own_origin(office: Office) -> None:
    opened = httpx.get(office.invite().replace("127.0.0.1", "localhost"))
    there = opened.text.partition('content="0;url=')[2].partition('"')[0]
    cookie = opened.headers["set-cookie"].partition(";")[0]
    url = f"http://localhost:{office.port}"
    page = httpx.get(f"{url}{there}memory/new", headers={"Cookie": cookie}).text
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    given = {"csrf": csrf, "text": "x", "kind": "note", "scope": "person"}
    for origin, status in ((office.origin, 403), (url, 303)):
        answer = httpx.post(f"{url}{there}memory/new", data=given, headers={"Cookie": cookie, "Origin": origin})
        assert answer.status_code == status


def test_a_form_without_the_sessions_token_is_refused(office: Office) -> None:
    browsing, other = office.browse(), office.browse("omar")
    other.get("/memory/new")
    given: dict[str, Any] = {"text": "x", "kind": "note", "scope": "person", "sure": "yes", "order": "cancel"}
    for token in (None, "", "x", other.csrf, "é"):
        for path in FORMS:
            sent = given if token is None else given | {"csrf": token}
            answer = browsing.http.post(browsing.base + path, data=sent, headers={"Origin": office.origin})
            assert answer.status_code == 403 and "panel.csrf" in answer.text, (token, path)
    assert office.memory.count() == 0


def test_nothing_that_changes_anything_is_a_get(office: Office) -> None:
    browsing = office.browse()
    id = office.remember("The depot opens at seven.")
    for path in (f"/memory/forget?item={id}&sure=yes&reason=asked", f"/memory/items/{id}?text=x", "/memory/new?text=x"):
        browsing.get(path)
    assert browsing.get("/close", 404)
    assert office.memory.get(id).text == "The depot opens at seven." and office.memory.count() == 1


def test_every_page_forbids_scripts_frames_and_keeping(office: Office) -> None:
    browsing = office.browse()
    for path in (*PAGES, "/nowhere"):
        headers = browsing.http.get(browsing.base + path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "script" not in policy
        assert "unsafe" not in policy and headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
    closed = httpx.get(office.origin + "/panel/nobody/")
    assert closed.status_code == 401 and "default-src 'none'" in closed.headers["content-security-policy"]
    for page in (browsing.get("/"), browsing.get("/memory/new")):
        assert "<script" not in page and "style=" not in page and not re.search(r"\son[a-z]+=", page)


def test_hostile_text_is_text(office: Office) -> None:
    hostile = "<script>hacked</script><img src=x onerror=hacked>\"'{{ 1234 * 5678 }}"
    id = office.remember(hostile, tags=[hostile], fields={hostile: hostile}, subject=hostile, source=hostile)
    browsing = office.browse()
    pages = ["/memory", f"/memory/items/{id}", f"/memory/items/{id}/leaving", f"/memory/forget?item={id}"]
    for path in (*pages, "/memory/tidy", "/memory?q=" + "%3Cscript%3E", "/memory/forget?about=%3Cscript%3E"):
        page = browsing.get(path)
        assert "<script" not in page and "<img src=x" not in page and "7006652" not in page


def test_a_panel_is_closed_by_its_button_by_the_command_and_by_resting(office: Office) -> None:
    one, other, third = office.browse(), office.browse(), office.browse()
    answer = one.http.post(one.base + "/close", headers={"Origin": office.origin})
    assert "The panel is closed" in answer.text
    one.get("/", 401)
    office.seconds += REST_S - 1
    other.get("/")
    office.seconds += 1
    third.get("/", 401)
    bearer = {"Authorization": f"Bearer {office.token}"}
    assert httpx.post(f"{office.origin}/v1/panel/close", json={}, headers=bearer).json() == {"closed": 1}
    other.get("/", 401)


def test_the_name_of_who_asks_is_a_line(office: Office) -> None:
    bearer = {"Authorization": f"Bearer {office.token}"}
    for by in ("", "a\nb", "x" * 201):
        answer = httpx.post(f"{office.origin}/v1/panel", json={"by": by}, headers=bearer)
        assert (answer.status_code, answer.json()["code"]) == (400, "api.body")


def test_templates_are_loaded_for_who_is_in_and_for_nobody_else(office: Office) -> None:
    pages = [name for name in list(sys.modules) if name.startswith(("jinja2", "edge_agent.panel.app"))]
    for path in ("/panel/open?code=x", "/panel/x/memory", "/panel/panel.css", "/panel/", "/panel/../memory"):
        asked(office, "GET", path)
    assert office.panel._pages is None
    assert [name for name in list(sys.modules) if name.startswith(("jinja2", "edge_agent.panel.app"))] == pages
    office.browse().get("/")
    assert office.panel._pages is not None
