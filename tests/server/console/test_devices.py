"""Devices: what they run, what is wrong with them, letting them in and go."""

from __future__ import annotations

import pytest

from server.console.formats import SECOND, exact
from shared.protocol import PROTOCOL_VERSION, Hello, Status
from tests.server.console.conftest import session_csrf, signed_in
from tests.server.console.sample_hub import OMAR, SampleHub


def device(hub: SampleHub, name: str) -> str:
    return next(view.id for view in hub.devices.list() if view.name == name)


def test_the_list_shows_state_drift_and_problems(read_only: SampleHub) -> None:
    html = signed_in(read_only).get("/devices").text
    assert html.index("Field laptop 7") < html.index("Back office") < html.index("Counter 2")  # troubles first
    for shown in ("log.rollback", "is to run 1", "of 67", "online", "ends <time"):
        assert shown in html, shown


def test_a_problem_is_told_with_code_and_advice(read_only: SampleHub) -> None:
    html = signed_in(read_only).get(f"/devices/{device(read_only, 'Field laptop 7')}").text
    assert "The device has 6 entries, but sent 10 before." in html
    assert "Keep both copies of the log as evidence; revoke the device and join it again." in html
    assert "<code>log.rollback</code>" in html


def test_a_device_has_its_figures(read_only: SampleHub) -> None:
    html = signed_in(read_only).get(f"/devices/{device(read_only, 'Back office')}").text
    for shown in ("of 67 entries: 41 not synced yet", "drift", "is to run 1", "until then it may act offline"):
        assert shown in html, shown


def test_where_a_device_hands_out_models_is_shown_while_it_does(busy: SampleHub) -> None:
    desk = device(busy, "Counter 2")
    page = signed_in(busy).get(f"/devices/{desk}")
    assert "hands out models" not in page.text
    seen = busy.devices.get(desk)
    hello = Hello(PROTOCOL_VERSION, desk, "00", seen.log_size, "", seen.release, "agent 0.1.0", "")
    busy.devices.arrive(hello, "192.168.1.20")
    busy.devices.status(desk, Status(seen.release, seen.log_size, 0, 0, 0, peer="192.168.1.20:8401"))
    page = signed_in(busy).get(f"/devices/{desk}")
    assert "hands out models at <code>192.168.1.20:8401</code>" in page.text


def test_revoking_asks_first_and_tells_why(busy: SampleHub) -> None:
    client, desk = signed_in(busy), device(busy, "Counter 2")
    page = client.get(f"/devices/{desk}/revoke").text
    assert "Revoke Counter 2?" in page and "4 waiting questions" in page and "cannot be undone" in page
    csrf = session_csrf(client)
    assert client.post(f"/devices/{desk}/revoke", data={"csrf": csrf}).status_code == 400
    assert client.post(f"/devices/{desk}/revoke", data={"code": "lost"}).status_code == 403
    assert busy.devices.get(desk).state == "active"
    done = client.post(f"/devices/{desk}/revoke", data={"csrf": csrf, "code": "lost"})
    assert (done.status_code, done.headers["location"]) == (303, f"/devices/{desk}")
    assert busy.devices.get(desk).state == "revoked"
    page = client.get(f"/devices/{desk}").text
    assert "Revoked" in page and "Revoke…" not in page
    again = client.post(f"/devices/{desk}/revoke", data={"csrf": csrf, "code": "lost"})
    assert again.status_code == 409 and "device.revoked" in again.text


def test_a_token_is_shown_once_and_works(hub: SampleHub) -> None:
    client = signed_in(hub)
    answer = client.post("/devices/token", data={"csrf": session_csrf(client)})
    assert answer.status_code == 200
    fingerprint = hub.log.key.public.fingerprint
    assert f".{fingerprint}</code>" in answer.text and "outrider agent join http://127.0.0.1:8400 " in answer.text
    assert exact(hub.clock() + hub.services.hub.token_seconds * SECOND) in answer.text


@pytest.mark.parametrize("path", ["/devices/token", "/devices/{desk}/revoke"])
def test_only_an_administrator_may(busy: SampleHub, path: str) -> None:
    client, desk = signed_in(busy, OMAR), device(busy, "Counter 2")
    assert "Add a device" not in client.get("/devices").text
    assert "Revoke…" not in client.get(f"/devices/{desk}").text
    data = {"csrf": session_csrf(client), "code": "lost"}
    answer = client.post(path.format(desk=desk), data=data)
    assert answer.status_code == 403 and "console.role" in answer.text
    assert client.get(f"/devices/{desk}/revoke").status_code == 403
    assert busy.devices.get(desk).state == "active"
