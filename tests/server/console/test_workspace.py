"""The pages of authoring: the workspace, its editor, versions, releases, and tokens for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from server.releases import RootChange
from server.releases.workspace import POLICY
from shared.offer import read_offer, sign_offer
from tests.server.console.conftest import csrf_in, session_csrf, signed_in
from tests.server.console.sample_hub import LENA, OMAR, SampleHub
from tests.trust import Person, change_root, quorum, root_keepers, signed

BELOW = "context.confidence < 900"
BOOK = "playbooks/permit-triage.yaml"


@pytest.fixture
def authored(hub: SampleHub) -> Iterator[SampleHub]:
    hub.authoring.begin()
    yield hub


def text_of(hub: SampleHub, path: str = POLICY) -> str:
    return hub.authoring.drafts.files(hub.authoring.need())[path].decode()


def post(client: httpx.Client, path: str, /, **fields: object) -> httpx.Response:
    given = {name: str(value) for name, value in fields.items()}
    return client.post(path, data={"csrf": session_csrf(client), **given})


def edited(client: httpx.Client, hub: SampleHub, new: str = "context.confidence < 850", path: str = POLICY) -> int:
    """Save a change by the editor's form."""
    answer = post(client, f"/workspace/files/{path}", base=hub.authoring.need().version, path=path,
                  text=text_of(hub, path).replace(BELOW, new).replace("\n", "\r\n"), note="less asking")  # fmt: skip
    assert answer.status_code == 303, answer.text
    return hub.authoring.need().version


def test_before_the_first_version_the_page_says_what_to_do(hub: SampleHub) -> None:
    client = signed_in(hub)
    page = client.get("/workspace")
    assert page.status_code == 200 and "The workspace is empty" in page.text
    assert "Take the folder in" not in signed_in(hub, OMAR).get("/workspace").text
    assert post(client, "/workspace", act="folder").headers["location"] == "/workspace"
    assert hub.authoring.need().origin == "folder"


def test_the_first_version_is_what_runs(authored: SampleHub) -> None:
    html = signed_in(authored).get("/workspace").text
    assert "It says what release 1 says" in html
    assert "Publish…" not in html
    assert authored.authoring.need().release == 1


def test_an_edit_is_a_version_with_its_line_ends(authored: SampleHub) -> None:
    client = signed_in(authored)
    before = text_of(authored)
    assert edited(client, authored) == 2
    assert text_of(authored) == before.replace(BELOW, "context.confidence < 850")
    assert (authored.authoring.need().by, authored.authoring.need().note) == ("maria", "less asking")
    saved = client.get(f"/workspace/files/{POLICY}?saved=2").text
    assert "Saved as version 2" in saved and "data-saved" in saved
    shown = client.get("/workspace").text
    assert "What changed since release 1" in shown and "less asking" in shown
    assert re.search(r'class="diff-in">.*?confidence &lt; 850', shown, re.DOTALL)


def test_what_cannot_be_saved_comes_back_with_the_reason(authored: SampleHub) -> None:
    maria, mine = signed_in(authored), "// what I typed\n"
    edited(maria, authored)
    answer = post(maria, f"/workspace/files/{POLICY}", base=1, path=POLICY, text=mine, note="my note")
    assert answer.status_code == 409 and "draft.moved" in answer.text
    assert re.search(rf"<textarea[^>]*>\n{re.escape(mine)}</textarea>", answer.text)
    assert 'value="my note"' in answer.text and "data-unsaved" in answer.text
    assert "What you typed, beside what is saved" in answer.text
    base = re.search(r'name="base" value="(\d+)"', answer.text)
    assert base is not None and base.group(1) == "2"  # saving again is on top of theirs
    again = post(maria, f"/workspace/files/{POLICY}", base=2, path=POLICY, text=mine)
    assert again.status_code == 303 and text_of(authored) == mine


def test_findings_stand_at_their_lines(authored: SampleHub) -> None:
    client = signed_in(authored)
    edited(client, authored, "context.confidense < 900")
    html = client.get(f"/workspace/files/{POLICY}").text
    line = (
        text_of(authored).splitlines().index('@id("ask-when-unsure") @about("Below 90% confidence a person decides.")')
        + 1
    )
    assert f'data-line="{line}" data-severity="error"' in html and "policy.invalid" in html
    assert f"/workspace/files/{POLICY}#line-{line}" in client.get("/workspace").text
    assert "It cannot be published yet" in client.get("/workspace/publish").text
    refused = post(client, "/workspace", act="publish", version=2)
    assert refused.status_code == 400 and "policy.invalid" in refused.text


def test_the_check_while_typing_saves_nothing(authored: SampleHub) -> None:
    client = signed_in(authored)
    html = post(client, "/workspace/check", path=POLICY, text=text_of(authored).replace("permit(", "permt(")).text
    assert "policy.parse" in html and 'data-severity="error"' in html and "<html" not in html
    assert authored.authoring.need().version == 1
    assert (
        client.post("/workspace/check", data={"path": POLICY, "text": "x"}).status_code == 403
    )  # no token of the form


def test_files_come_and_go(authored: SampleHub) -> None:
    client = signed_in(authored)
    made = post(client, "/workspace/new", path="prompts/letter@1.txt")
    assert made.headers["location"] == "/workspace/files/prompts/letter%401.txt"
    assert client.get(made.headers["location"]).status_code == 200
    again = post(client, "/workspace/new", path="prompts/letter@1.txt")
    assert again.status_code == 400 and 'value="prompts/letter@1.txt"' in again.text
    assert post(client, "/workspace/new", path="../x").status_code == 400
    gone = post(client, "/workspace/files/prompts/letter@1.txt", base=2, remove="yes")
    assert gone.headers["location"] == "/workspace"
    assert "prompts/letter@1.txt" not in authored.authoring.need().files
    assert client.get("/workspace/files/prompts/letter@1.txt").status_code == 404


def test_who_only_looks_may_comment_and_no_more(authored: SampleHub) -> None:
    lena = signed_in(authored, LENA)
    html = lena.get("/workspace").text
    assert "New file" not in html and "Sign version" not in html
    assert "readonly" in lena.get(f"/workspace/files/{POLICY}").text
    for path, fields in (
        (f"/workspace/files/{POLICY}", {"base": 1, "text": "x"}),
        ("/workspace", {"act": "sign", "version": 1}),
        ("/workspace", {"act": "publish", "version": 1}),
        ("/workspace", {"act": "folder"}),
        ("/workspace/versions/1", {"act": "restore"}),
        ("/releases/1", {}),
        ("/releases", {"act": "complete", "proposal": "x"}),
    ):
        answer = post(lena, path, **fields)
        assert answer.status_code == 403 and "draft.role" in answer.text, path
    assert (
        post(lena, "/workspace", act="comment", version=1, text="Why <b>900</b>?", place=POLICY, line=3).status_code
        == 303
    )
    html = lena.get("/workspace").text
    assert "Why &lt;b&gt;900&lt;/b&gt;?" in html and f"{POLICY}:3" in html
    empty = post(lena, "/workspace", act="comment", version=1, text=" ")
    assert empty.status_code == 400 and "draft.comment" in empty.text


def test_sign_off_and_publish(authored: SampleHub) -> None:
    authored.authoring.sign_offs = 1
    authored.users.add("rosa", "four unrelated words", ["release"])
    maria, rosa = signed_in(authored), signed_in(authored, ("rosa", ""))
    edited(maria, authored)
    assert "It is not signed off yet" in maria.get("/workspace/publish").text
    assert post(maria, "/workspace", act="publish", version=2).status_code == 403
    assert "Sign version" not in maria.get("/workspace").text
    assert post(rosa, "/workspace", act="sign", version=2).status_code == 303
    assert "rosa signed it off" in maria.get("/workspace").text
    assert "Publish version 2?" in maria.get("/workspace/publish").text
    done = post(maria, "/workspace", act="publish", version=2)
    assert done.headers["location"] == "/releases/2?published=1"
    html = maria.get("/releases/2?published=1").text
    assert "It is published." in html and "signed off by rosa" in html and "What changed since release 1" in html
    assert authored.releases.current() == 2


def test_where_people_sign_a_release_waits_for_their_signatures(authored: SampleHub) -> None:
    keepers, alice = root_keepers(authored.store.home), Person("alice")
    change_root(authored.releases, RootChange(people={"policy": quorum(1, alice)}), *keepers[:2], alice)
    client = signed_in(authored)
    edited(client, authored)
    assert "it waits until enough of them have signed it" in client.get("/workspace/publish").text
    assert post(client, "/workspace", act="publish", version=2).headers["location"] == "/releases"
    (waiting,) = [one for one in authored.releases.proposals() if one.state == "open"]
    html = client.get("/releases").text
    assert f"Release {waiting.number}</a>" not in html
    assert "waits for signatures" in html and "1 signature for policy" in html and "Bring it into force" not in html
    offer = client.get(f"/releases/proposals/{waiting.id}")
    assert read_offer(offer.content) == waiting.offer
    broken = post(client, "/releases", act="signature", proposal=waiting.id, signature="{}")
    assert broken.status_code == 400 and "sign.form" in broken.text
    signature = sign_offer(read_offer(offer.content), alice.text, alice.key).data().decode()
    assert post(client, "/releases", act="signature", proposal=waiting.id, signature=signature).status_code == 303
    assert "Bring it into force" in client.get("/releases").text
    done = post(client, "/releases", act="complete", proposal=waiting.id)
    assert done.headers["location"] == f"/releases/{waiting.number}?published=1"
    assert authored.releases.current() == waiting.number == authored.authoring.need().release


def test_signatures_that_end_are_told_where_people_look(authored: SampleHub) -> None:
    client, keepers = signed_in(authored), root_keepers(authored.store.home)
    there = ("/", "/attention", "/releases")
    assert not any("The signature of" in client.get(path).text for path in there)
    assert "renews it by itself" in client.get("/releases").text
    authored.agent("dora")  # without a device the overview says how to get one, and no more
    authored.clock.step(1090 * 24 * 3600 * 1_000_000)  # the root lasts three years
    authored.releases.refresh_timestamp()
    client = signed_in(authored)
    for path in there:
        html = client.get(path).text
        assert "The signature of the root of trust ends" in html and "hub root offer" in html, path
    assert "1" in client.get("/attention/badge").text
    signed(authored.releases, authored.releases.offer_root(RootChange(), "maria"), *keepers[:2])
    assert not any("The signature of" in client.get(path).text for path in there)


def test_versions_and_releases_stay_readable_and_come_back(authored: SampleHub) -> None:
    client = signed_in(authored)
    edited(client, authored)
    post(client, "/workspace", act="publish", version=2)
    assert "less asking" in client.get("/workspace/versions").text
    assert "confidence &lt; 900" in client.get("/workspace/versions/1").text
    compared = client.get("/workspace/versions/1?against=2").text
    assert "What changed since version 2" in compared
    assert client.get("/workspace/versions/99").status_code == 404
    assert client.get("/workspace/versions/x").status_code == 404
    assert post(client, "/workspace/versions/1", act="restore").headers["location"] == "/workspace"
    assert (authored.authoring.need().version, authored.authoring.need().source) == (3, 1)
    listed = client.get("/releases").text
    assert listed.index("Release 2") < listed.index("Release 1<")
    assert client.get("/releases/9").status_code == 404
    assert post(client, "/releases/2").headers["location"] == "/workspace"
    assert authored.authoring.need().digest == authored.authoring.drafts.get(2).digest
    same = post(client, "/releases/2")
    assert same.status_code == 409 and "draft.same" in same.text


def test_the_folder_is_offered_where_it_was_changed(authored: SampleHub) -> None:
    client = signed_in(authored)
    assert "folder has something new" not in client.get("/workspace").text
    file = authored.store.home / "workspace" / POLICY
    file.write_text(file.read_text() + "// by hand\n")
    assert "folder has something new" in client.get("/workspace").text
    assert post(client, "/workspace", act="folder").status_code == 303
    assert text_of(authored).endswith("// by hand\n")


def test_a_token_is_made_shown_once_and_revoked(authored: SampleHub) -> None:
    maria, omar = signed_in(authored), signed_in(authored, OMAR)
    fields = {"label": "desk program", "days": 7, "scope workspace:read": "yes", "scope workspace:write": "yes"}
    made = post(omar, "/workspace/tokens", **fields)
    token = re.search(r"oat_[0-9a-f]{64}", made.text)
    assert made.status_code == 200 and token is not None
    assert authored.access.use(token.group(), "workspace:write").name == "omar"
    assert token.group() not in omar.get("/workspace/tokens").text
    (kept,) = authored.access.list("omar")
    assert "desk program" in maria.get("/workspace/tokens").text  # an administrator sees all
    assert "desk program" not in signed_in(authored, LENA).get("/workspace/tokens").text
    assert post(signed_in(authored, LENA), "/workspace/tokens", revoke=kept.id).status_code == 403
    assert post(maria, "/workspace/tokens", revoke=kept.id).status_code == 303
    assert authored.access.get(kept.id).revoked_at > 0
    none = post(omar, "/workspace/tokens", label="x", days=7)
    assert none.status_code == 400 and "access.scopes" in none.text
    assert post(omar, "/workspace/tokens", label="x", days=8).status_code == 400


def test_every_page_keeps_the_headers_and_has_one_heading(authored: SampleHub) -> None:
    client = signed_in(authored)
    edited(client, authored)
    for path in PAGES:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.text.count("<h1") == 1 and answer.text.count("<title>") == 1, path
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", answer.text), path
        assert csrf_in(answer.text)


PAGES = (
    "/workspace", f"/workspace/files/{POLICY}", f"/workspace/files/{BOOK}", "/workspace/new", "/workspace/publish",
    "/workspace/versions", "/workspace/versions/2", "/workspace/tokens", "/releases", "/releases/1",
)  # fmt: skip
