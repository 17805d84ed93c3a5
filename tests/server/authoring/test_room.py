"""From the first edit to the release: versions, who may do what, sign-off, publishing, the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from server.releases.workspace import MODELS, PEERS, POLICY
from shared.codec import digest, hex_sha256
from shared.entries import DraftSaved, DraftSigned, ReleasePublished, read
from shared.errors import BadInput, Conflict, OutriderError, Refused
from tests.server.authoring.conftest import ILSE, MARA, OTTO, STARTER, Desk

PROMPT = "prompts/extract-fields@1.txt"
BOOK = "playbooks/permit-triage.yaml"


def code(kind: type[OutriderError], act: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        act()
    return caught.value.code


def facts(desk: Desk, kind: type) -> list[object]:
    found = [read(data).facts for _, data in desk.hublog.entries()]
    return [one for one in found if isinstance(one, kind)]


def test_it_begins_with_the_folder_as_version_1(desk: Desk) -> None:
    first = desk.room.need()
    assert (first.version, first.origin, first.by) == (1, "folder", "hub")
    assert desk.room.drafts.files(first) == desk.files
    desk.room.begin()
    assert desk.room.need().version == 1


def test_every_version_is_kept_and_in_the_log(desk: Desk) -> None:
    before = desk.room.drafts.files(desk.room.need())
    data = desk.change(POLICY, "context.confidence < 850", "context.confidence < 800")
    assert desk.room.drafts.files(desk.room.need())[POLICY] == data
    assert desk.room.drafts.files(desk.room.drafts.get(1)) == before
    saved = facts(desk, DraftSaved)
    hashes = {path: hex_sha256(data) for path, data in before.items()}
    assert saved[0] == DraftSaved(1, "hub", "folder", 0, digest(hashes))
    assert saved[1] == DraftSaved(2, "mara", "edit", 0, desk.room.need().digest)


def test_two_people_edit_different_files_and_neither_loses(desk: Desk) -> None:
    base = desk.room.need().version
    policy = desk.files[POLICY] + b"\n// mara\n"
    prompt = desk.files[PROMPT].replace(b"Permit desk.", b"The permit desk.")
    desk.room.edit(POLICY, policy, base=base, by=MARA)
    desk.room.edit(PROMPT, prompt, base=base, by=OTTO)
    files = desk.room.drafts.files(desk.room.need())
    assert (files[POLICY], files[PROMPT]) == (policy, prompt)
    assert code(Conflict, lambda: desk.room.edit(POLICY, b"x", base=base, by=OTTO)) == "draft.moved"
    assert desk.room.need().version == base + 2


def test_a_file_is_added_and_removed(desk: Desk) -> None:
    desk.room.edit("prompts/letters@1.txt", b"hello", base=1, by=MARA)
    assert desk.room.drafts.files(desk.room.need())["prompts/letters@1.txt"] == b"hello"
    desk.room.edit("prompts/letters@1.txt", None, base=2, by=MARA)
    assert desk.room.need().digest == desk.room.drafts.get(1).digest


@pytest.mark.parametrize(
    "path", ["../evil.txt", "playbooks/../../x", "notes.txt", "playbooks/.x", "prompts/a/b.txt", "release.json", ""]
)
def test_paths_that_are_no_files_of_a_workspace_are_refused(desk: Desk, path: str) -> None:
    assert code(BadInput, lambda: desk.room.edit(path, b"x", base=1, by=MARA)) == "draft.path"


def test_who_is_no_author_changes_nothing(desk: Desk) -> None:
    acts: list[Callable[[], object]] = [
        lambda: desk.room.edit(POLICY, b"x", base=1, by=ILSE),
        lambda: desk.room.push({POLICY: b"x"}, base=1, by=ILSE),
        lambda: desk.room.restore(1, by=ILSE),
        lambda: desk.room.restore_release(1, by=ILSE),
        lambda: desk.room.sign(1, by=ILSE),
        lambda: desk.room.publish(1, by=ILSE),
    ]
    assert [code(Refused, act) for act in acts] == ["draft.role"] * len(acts)
    desk.room.comment(1, by=ILSE, text="Why 850?", path=POLICY, line=34)
    (said,) = desk.room.drafts.comments(1)
    assert (said.by, said.path, said.line, said.text) == ("ilse", POLICY, 34, "Why 850?")


def test_what_is_wrong_is_not_published(desk: Desk) -> None:
    desk.change(POLICY, 'permit (principal, action == Action::"execute", resource == Tool::"register.decide")', "permt")
    assert code(BadInput, lambda: desk.room.publish(2, by=MARA)) == "policy.parse"
    assert desk.releases.current() == 0
    assert desk.room.need().release == 0


def test_publishing_is_of_exactly_the_newest_version(desk: Desk) -> None:
    done = desk.room.publish(1, by=MARA)
    assert (done.release, done.proposal) == (1, "")
    assert desk.room.drafts.get(1).release == 1
    (published,) = facts(desk, ReleasePublished)
    assert isinstance(published, ReleasePublished) and published.by == "mara"
    listed = {path: sha256 for path, sha256 in published.files.items() if path != "release.json"}
    assert listed.items() <= desk.room.need().files.items()
    assert code(Conflict, lambda: desk.room.publish(1, by=MARA)) == "release.unchanged"
    desk.change(POLICY, "context.confidence < 850", "context.confidence < 800")
    assert code(Conflict, lambda: desk.room.publish(1, by=MARA)) == "draft.moved"
    assert desk.room.publish(2, by=MARA).release == 2


def test_other_people_sign_off_first(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(sign_offs=1)
    desk.change(POLICY, "context.confidence < 850", "context.confidence < 800")
    assert code(Refused, lambda: desk.room.publish(2, by=MARA)) == "draft.unsigned"
    assert code(Refused, lambda: desk.room.sign(2, by=MARA)) == "draft.own"
    assert code(Conflict, lambda: desk.room.sign(1, by=OTTO)) == "draft.moved"
    desk.room.sign(2, by=OTTO)
    assert code(Conflict, lambda: desk.room.sign(2, by=OTTO)) == "draft.signed"
    assert facts(desk, DraftSigned) == [DraftSigned(2, "otto", desk.room.need().digest)]
    desk.change(POLICY, "context.confidence < 800", "context.confidence < 700")  # what was signed is another version
    assert code(Refused, lambda: desk.room.publish(3, by=MARA)) == "draft.unsigned"
    desk.room.sign(3, by=OTTO)
    assert desk.room.publish(3, by=MARA).release == 1


def test_the_folder_is_held_to_sign_offs_too(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(sign_offs=1)
    assert code(Refused, lambda: desk.room.publish_folder("operator")) == "draft.unsigned"
    desk.room.sign(1, by=OTTO)
    assert desk.room.publish_folder("operator").release == 1


def test_an_old_version_and_an_old_release_come_back(desk: Desk) -> None:
    desk.room.publish(1, by=MARA)
    desk.change(POLICY, "context.confidence < 850", "context.confidence < 800")
    back = desk.room.restore(1, by=OTTO)
    assert (back.version, back.origin, back.source, back.note) == (3, "restore", 1, "as in version 1")
    assert back.digest == desk.room.drafts.get(1).digest
    assert facts(desk, DraftSaved)[-1] == DraftSaved(3, "otto", "restore", 1, back.digest)
    desk.change(POLICY, "context.confidence < 850", "context.confidence < 700")
    assert desk.room.restore_release(1, by=OTTO).digest == back.digest
    assert code(Conflict, lambda: desk.room.restore_release(1, by=OTTO)) == "draft.same"


def test_a_release_that_had_no_version_is_read_and_restored(desk: Desk) -> None:
    desk.releases.publish("operator")
    files = desk.room.release_files(1)
    assert {path: data for path, data in files.items() if path != MODELS} == {
        path: data for path, data in desk.files.items() if path != MODELS
    }
    assert PEERS not in files
    desk.change(POLICY, "context.confidence < 850", "context.confidence < 800")
    desk.room.restore_release(1, by=MARA)
    assert code(Conflict, lambda: desk.room.publish(desk.room.need().version, by=MARA)) == "release.unchanged"


def test_what_devices_may_hand_on_is_read_back_from_a_release_that_had_no_version(desk: Desk, home: Path) -> None:
    (home / "workspace" / PEERS).write_text("models: true\n")
    desk.releases.publish("operator")
    assert desk.room.release_files(1)[PEERS] == b"models: true\n"


def test_the_folder_becomes_a_version_before_it_is_published(desk: Desk, home: Path) -> None:
    file = home / "workspace" / POLICY
    file.write_text(file.read_text() + "\n// changed by hand\n")
    assert desk.room.folder_differs()
    assert desk.room.publish_folder("operator").release == 1
    newest = desk.room.need()
    assert (newest.version, newest.origin, newest.by, newest.release) == (2, "folder", "operator", 1)
    assert not desk.room.folder_differs()


def test_the_folder_does_not_undo_what_was_saved_elsewhere(desk: Desk, home: Path) -> None:
    desk.change(POLICY, "context.confidence < 850", "context.confidence < 800")
    assert code(Conflict, lambda: desk.room.publish_folder("operator")) == "draft.elsewhere"
    file = home / "workspace" / POLICY
    file.write_text(file.read_text() + "\n// changed by hand\n")
    assert code(Conflict, lambda: desk.room.publish_folder("operator")) == "draft.elsewhere"
    for path, data in desk.room.drafts.files(desk.room.need()).items():
        (home / "workspace" / path).write_bytes(data)
    assert desk.room.publish_folder("operator").release == 1
    assert desk.room.need().version == 2


def test_a_push_needs_the_newest_version_or_says_so(desk: Desk) -> None:
    desk.change(POLICY, "context.confidence < 850", "context.confidence < 800")
    assert code(Conflict, lambda: desk.room.push(desk.files | {PROMPT: b"x"}, base=1, by=OTTO)) == "draft.moved"
    pushed = desk.room.push(desk.files | {PROMPT: b"x"}, base=1, by=OTTO, replace=True, note="from git")
    assert (pushed.version, pushed.origin, pushed.note) == (3, "push", "from git")
    assert desk.room.push(desk.files | {PROMPT: b"x"}, base=1, by=OTTO).version == 3


def test_the_check_knows_the_people_the_devices_and_what_runs(desk: Desk) -> None:
    assert desk.room.check(desk.files) == []
    book = desk.files[BOOK].replace(b"roles: [clerk]", b"roles: [clark]")
    (found,) = desk.room.check(desk.files | {BOOK: book})
    assert (found.code, found.path, found.severity) == ("lint.role-nobody", BOOK, "warning")
    assert "clerk" in found.advice
    desk.room.publish(1, by=MARA)
    (found,) = desk.room.check(desk.files | {PROMPT: desk.files[PROMPT].replace(b"Permit desk.", b"Desk.")})
    assert (found.code, found.path) == ("lint.version-same", PROMPT)


def test_the_starter_is_what_is_tested() -> None:
    assert (STARTER / POLICY).is_file()
