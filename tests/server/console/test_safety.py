"""The page of stops: who may press, what it says, and what it shows of those who obey."""

from __future__ import annotations

import httpx

from shared.protocol import Status
from tests.server.console.conftest import session_csrf, signed_in
from tests.server.console.sample_hub import LENA, OMAR, SampleHub


def send(client: httpx.Client, path: str = "/safety", **fields: str) -> httpx.Response:
    return client.post(path, data={"csrf": session_csrf(client), **fields})


def test_nothing_is_stopped_and_the_page_says_what_to_do(read_only: SampleHub) -> None:
    html = signed_in(read_only).get("/safety").text
    for shown in ("Nothing is stopped", "Stop everything", "Stop one thing", "permit-triage", "register.decide"):
        assert shown in html, shown
    assert 'href="/safety"' in html


def test_everything_is_stopped_and_let_go(busy: SampleHub) -> None:
    client = signed_in(busy)
    made = send(client, what="fleet:", reason="security", note="<b>keys</b> are out", sure="yes")
    assert made.status_code == 303
    (stop,) = busy.switches.in_force()
    assert (stop.kind, stop.by, stop.reason_code, stop.note) == ("fleet", "maria", "security", "<b>keys</b> are out")
    html = client.get("/safety").text
    assert "Everything, on every device" in html and "&lt;b&gt;keys" in html and "Somebody may have got in" in html
    assert "Everything is stopped" in client.get("/runs").text, "every page says so"
    assert send(client, f"/safety/{stop.id}/release", note="changed").status_code == 303
    assert busy.switches.in_force() == []
    html = client.get("/safety").text
    assert "Nothing is stopped" in html and "let go by maria" in html and "changed" in html


def test_one_device_and_who_obeys(busy: SampleHub) -> None:
    client = signed_in(busy)
    device = next(one for one in busy.devices.list() if one.state == "active" and one.online)
    page = client.get(f"/devices/{device.id}").text
    assert f"/safety?what=device:{device.id}#one" in page
    form = client.get(f"/safety?what=device:{device.id}").text
    assert f'value="device:{device.id}" selected' in form
    assert send(client, what=f"device:{device.id}", reason="wrong", note="", sure="yes").status_code == 303
    (stop,) = busy.switches.in_force()
    html = client.get("/safety").text
    assert f"Device {device.name}" in html and "0 of 1 device obey" in html
    busy.devices.status(device.id, Status(1, 10, 0, 0, 0, stop.version))
    assert "1 device obeys." in client.get("/safety").text
    page = client.get(f"/devices/{device.id}").text
    assert "This device is stopped" in page and "/safety?what=" not in page


def test_what_is_refused_changes_nothing_and_keeps_the_form(busy: SampleHub) -> None:
    client = signed_in(busy)
    for fields, status, code in (
        ({"what": "fleet:", "reason": "wrong", "sure": ""}, 400, "console.sure"),
        ({"what": "fleet:", "reason": "", "sure": "yes"}, 400, "switch.reason"),
        ({"what": "", "reason": "wrong", "sure": "yes"}, 400, "switch.kind"),
    ):
        answer = send(client, note="my words", **fields)
        assert (answer.status_code, code in answer.text, "my words" in answer.text) == (status, True, True)
    assert client.post("/safety", data={"csrf": "x", "what": "fleet:"}).status_code == 403
    for other in (OMAR, LENA):
        visitor = signed_in(busy, other)
        assert "Stop everything" not in visitor.get("/safety").text
        assert send(visitor, what="fleet:", reason="wrong", sure="yes").status_code == 403
    assert busy.switches.in_force() == []
    busy.switches.press("fleet", by="maria", reason="drill")
    assert send(signed_in(busy, OMAR), f"/safety/{busy.switches.in_force()[0].id}/release").status_code == 403
    assert send(client, "/safety/sw-none/release").status_code == 400
    assert len(busy.switches.in_force()) == 1


def test_the_role_safety_is_enough(busy: SampleHub) -> None:
    busy.users.add("sam", "correct horse battery", ["safety"])
    client = signed_in(busy, ("sam", "correct horse battery"))
    assert send(client, what="tool:register.decide", reason="tool", sure="yes").status_code == 303
    assert [(one.kind, one.name, one.by) for one in busy.switches.in_force()] == [("tool", "register.decide", "sam")]
