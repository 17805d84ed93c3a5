"""The panel of a real agent with a real hub: opened by the command, true about the link, and one with the command line
about memory."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import httpx
import pytest
from demo_kit import outrider

if TYPE_CHECKING:
    from tests.system.conftest import City

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_a_person_opens_it_looks_remembers_and_forgets(city: City) -> None:
    desk = city.desk("panel")
    desk.start()
    desk.until(lambda status: bool(status["release"] and status["linked"] and status["idle"]))
    desk.drop("morning.csv", ["T-001,Tear off shingles and reroof the garage,4000"])
    desk.until(lambda status: status["runs"]["closed"] == 1)
    home = ("--home", str(desk.home))
    url = json.loads(outrider("panel", "--json", *home))["url"]
    with httpx.Client(timeout=60) as browser:
        opened = browser.get(url)
        room = re.search(r'content="0;url=(/panel/[^/]+)/"', opened.text)
        assert room is not None
        origin = url.partition("/panel/")[0]
        base = origin + room[1]
        page = browser.get(f"{base}/").text
        assert "Online" in page and "T-001" in page and "Done" in page and " left</dd>" in page
        assert "T-001" in browser.get(f"{base}/runs").text
        form = browser.get(f"{base}/memory/new").text
        csrf = form.partition('name="csrf" value="')[2].partition('"')[0]
        given = {"csrf": csrf, "kind": "note", "scope": "device", "text": "The depot opens at seven."}
        sent = {"Origin": origin}
        kept = browser.post(f"{base}/memory/new", data=given, headers=sent)
        assert kept.status_code == 303
        (found,) = json.loads(outrider("memory", "list", "--search", "depots", "--json", *home))
        assert kept.headers["location"].endswith(found["id"])
        outrider("memory", "edit", found["id"], "--text", "The depot opens at eight.", *home)
        assert "The depot opens at eight." in browser.get(f"{base}/memory?q=eight").text
        gone = {"csrf": csrf, "item": found["id"], "reason": "asked", "sure": "yes"}
        assert browser.post(f"{base}/memory/forget", data=gone, headers=sent).status_code == 303
        assert "1 item is gone from this computer." in browser.get(f"{base}/memory/forgotten").text
        assert json.loads(outrider("memory", "list", "--search", "depots", "--json", *home)) == []
        for path in ("tidy", "files", "export"):
            assert browser.get(f"{base}/memory/{path}").status_code == 200
        assert json.loads(outrider("panel", "--close", "--json", *home)) == {"closed": 1}
        assert browser.get(f"{base}/").status_code == 401
    assert desk.verify()["error"] is None
