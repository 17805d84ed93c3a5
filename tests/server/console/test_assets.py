"""Vendored files: whole, licensed, named by what they hold, and nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from server.console import assets
from server.console.rendering import TEMPLATES, icon, icons
from tests.server.console.conftest import client_of
from tests.server.console.sample_hub import SampleHub

CONSOLE = Path(assets.__file__).parent


def words_quoted() -> set[str]:
    """Every quoted word in the templates and in the modules whose words they show."""
    texts = [path.read_text() for path in [*TEMPLATES.glob("*.html"), *CONSOLE.glob("*.py")]]
    return {word for text in texts for word in re.findall(r'"([a-z]+(?:-[a-z]+)*)"', text)}


def test_the_sprite_holds_no_icon_that_is_not_used() -> None:
    sprite = set(re.findall(r'<symbol id="([a-z-]+)"', (assets.FOLDER / "icons.svg").read_text()))
    assert sprite and sprite <= words_quoted()
    assert sprite == icons()


def test_an_icon_that_is_not_there_is_a_mistake() -> None:
    assert "#bolt" in icon("bolt")
    with pytest.raises(KeyError):
        icon("no-such-icon")
    for text in (path.read_text() for path in TEMPLATES.glob("*.html")):
        assert set(re.findall(r'icon\("([a-z-]+)"', text)) <= icons()


def test_every_vendored_file_names_its_licence() -> None:
    licences = (assets.FOLDER / "LICENSES.txt").read_text()
    for name in assets.assets():
        if re.search(r"\d\.\d", name) or name == "icons.svg":
            assert name in licences
    number = len(re.findall("<symbol", (assets.FOLDER / "icons.svg").read_text()))
    assert f"{number} outline icons" in licences


def test_pages_and_styles_fetch_nothing_from_elsewhere() -> None:
    own = [*TEMPLATES.glob("*.html"), assets.FOLDER / "console.css", assets.FOLDER / "console.js"]
    for path in own:
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", path.read_text()), path.name
    tabler = (assets.FOLDER / "tabler-1.6.1.min.css").read_text()
    assert "@import" not in tabler
    assert all(url.startswith(("data:", '"data:', "'data:")) for url in re.findall(r"url\(([^)]{0,10})", tabler))


def test_a_file_may_be_kept_for_ever_under_its_hash(hub: SampleHub) -> None:
    client = client_of(hub)
    kept = client.get(assets.url("console.css"))
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert kept.headers["content-encoding"] == "gzip" and kept.content == (assets.FOLDER / "console.css").read_bytes()
    plain = client.get("/static/console.css", headers={"accept-encoding": "identity"})
    assert plain.headers["cache-control"] == "no-cache" and plain.content == kept.content
    same = client.get("/static/console.css", headers={"if-none-match": plain.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


@pytest.mark.parametrize("name", ["none.css", "../desk.py", "..%2fdesk.py", "%2e%2e/templates/base.html", ""])
def test_nothing_else_is_served(hub: SampleHub, name: str) -> None:
    assert client_of(hub).get(f"/static/{name}").status_code == 404


def test_a_file_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        assets.url("none.css")
