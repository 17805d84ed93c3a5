"""Sessions: turns, a summary made of what was said, and forgetting that leaves nothing in the files."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edge_agent.sessions import Artefact, Budget, Meaning, Sentence, Sessions, fold, rested
from shared.context import Parts, assemble
from shared.errors import BadInput, Tampered, Unavailable
from shared.memory import item_id
from shared.memory.feed import Tombstone, subject_digest
from shared.memory.rules import read_rules
from shared.memory.vector import Embedding

DAY = 86_400_000_000
RULES = read_rules("memory: 1\nsessions: {summarise: 7d, expire: 30d}\n", "m")
ITEM = "mem_" + "a" * 24


def words(text: str) -> int:
    return len(text.split())


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    made = Sessions(tmp_path / "sessions.sqlite3", count=words, budget=Budget(60, 40))
    yield made
    made.close()


def raw(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def say(sessions: Sessions, *texts: str, session: str = "ses_1", subject: str = "") -> None:
    sessions.open(session, scope="person", at=0)
    for number, text in enumerate(texts):
        sessions.add(session, "user", text, at=number, subject=subject)


def test_what_was_said_is_kept_in_order(sessions: Sessions) -> None:
    sessions.open("ses_1", scope="person", at=5, run="run_1")
    made = Artefact("file", "plans/roof.pdf", "ab" * 32)
    assert sessions.add("ses_1", "user", "see the plan", at=6, artefacts=[made]) == 1
    assert sessions.add("ses_1", "assistant", "I see it", at=7, subject="Ada") == 2
    assert [(turn.n, turn.role, turn.text, turn.subject, turn.tokens) for turn in sessions.turns("ses_1")] == [
        (1, "user", "see the plan", "", 3),
        (2, "assistant", "I see it", "Ada", 3),
    ]
    assert sessions.artefacts("ses_1") == [(1, made)]
    assert sessions.open("ses_1", scope="team/x", at=99).scope == "person", "opening again changes nothing"
    assert sessions.session("ses_1").touched_at == 7


def test_what_is_not_there_or_not_text_is_refused(sessions: Sessions) -> None:
    with pytest.raises(BadInput, match="session.unknown"):
        sessions.add("ses_9", "user", "hello", at=0)
    sessions.open("ses_1", scope="person", at=0)
    for text in ("", "  ", "a\x00b", "\ud800", "x" * 100_001):
        with pytest.raises(BadInput, match="session.turn"):
            sessions.add("ses_1", "user", text, at=0)


def test_a_file_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "sessions.sqlite3").mkdir()
    with pytest.raises(Unavailable, match="session.storage"):
        Sessions(tmp_path / "sessions.sqlite3", count=words)


TALK = [
    "Hello there!",
    "The roof permit must be filed before 12 May. Thanks a lot!",
    "We decided that the roof gets slate tiles. It rained all week.",
    "What about the weather?",
    "The owner of the house prefers calls in the morning. I had lunch.",
    "The roof permit costs 450 dollars, and the owner agreed to pay it.",
    "Nice. Let us look at the garage next week then, if nothing else comes up until then.",
    "The garage needs a new door and a longer drain along the wall of the house.",
]


async def test_old_turns_are_folded_word_for_word(sessions: Sessions) -> None:
    say(sessions, *TALK)
    summary = await fold(sessions, "ses_1")
    assert summary
    assert summary == sessions.summary("ses_1")
    texts = {turn.n: turn.text for turn in sessions.turns("ses_1")}
    for one in summary:
        assert texts[one.turn][one.start : one.end] == one.text
    said = [one.text for one in summary]
    assert "The roof permit must be filed before 12 May." in said
    assert "We decided that the roof gets slate tiles." in said
    assert not {"Hello there!", "Thanks a lot!", "What about the weather?"} & set(said)
    assert sum(words(text) for text in said) <= 40
    turns, _ = sessions.parts("ses_1")
    assert sum(words(part.text) for part in turns) <= 60
    assert await fold(sessions, "ses_1") is None, "nothing is left to fold"
    assert sessions.session("ses_1").folded == len(TALK) - len(turns)


async def test_the_same_turns_give_the_same_summary(sessions: Sessions) -> None:
    say(sessions, *TALK)
    say(sessions, *TALK, session="ses_2")
    assert await fold(sessions, "ses_1") == await fold(sessions, "ses_2")


class Stubborn:
    """A model that wants one sentence above all, answers nonsense, or fails."""

    def __init__(self, want: str = "", *, short: bool = False, error: bool = False) -> None:
        self.want, self.short, self.error = want, short, error

    async def values(self, sentences: Sequence[str]) -> list[int]:
        if self.error:
            raise Unavailable("model.crashed", "it died", advice="none")
        return [] if self.short else [10**9 if text == self.want else -(10**9) for text in sentences]


async def test_a_model_may_choose_and_no_more(sessions: Sessions) -> None:
    say(sessions, *TALK)
    say(sessions, *TALK, session="ses_2")
    say(sessions, *TALK, session="ses_3")
    plain = await fold(sessions, "ses_2", Stubborn(error=True))
    assert plain == await fold(sessions, "ses_3", Stubborn(short=True))
    wanted = await fold(sessions, "ses_1", Stubborn("We decided that the roof gets slate tiles."))
    assert wanted is not None and [one.text for one in wanted] != [one.text for one in plain or []]
    assert "We decided that the roof gets slate tiles." in [one.text for one in wanted]
    texts = {turn.n: turn.text for turn in sessions.turns("ses_1")}
    assert all(one.text in texts[one.turn] for one in wanted)


async def test_meaning_is_nearness_to_all() -> None:
    async def embed(texts: Sequence[str]) -> list[Embedding]:
        return [Embedding(bytes([100, 20]) if "roof" in text else bytes([20, 100]), 9_800_000) for text in texts]

    near = await Meaning(embed).values(["the roof", "a roof", "lunch"])
    assert near[0] == near[1] > near[2]


def test_a_summary_that_nobody_said_is_refused(sessions: Sessions) -> None:
    say(sessions, "The roof is red.", "The door is blue.")
    for made in (
        Sentence(1, 0, 16, "The roof is gold"),
        Sentence(2, 0, 16, "The roof is red."),
        Sentence(9, 0, 4, "door"),
        Sentence(1, 3, 3, ""),
    ):
        with pytest.raises(Tampered, match="session.not-verbatim"):
            sessions.keep("ses_1", 2, [made])
    assert sessions.summary("ses_1") == []
    assert sessions.session("ses_1").folded == 0


async def test_the_prompt_stays_flat(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "s.sqlite3", count=words, budget=Budget(200, 80))
    sessions.open("ses_1", scope="person", at=0)
    chance = random.Random(3)
    sizes = []
    for number in range(1_000):
        text = " ".join(
            chance.choice(["roof", "permit", "must", "door", "wall", "agreed", "tile", "7"]) for _ in range(20)
        )
        sessions.add("ses_1", "user", f"Point {number}: {text}.", at=number)
        await fold(sessions, "ses_1")
        turns, summary = sessions.parts("ses_1")
        made = assemble(Parts(turns=turns, summary=summary), 400, words)
        assert made.left_out == []
        sizes.append(made.used)
    assert max(sizes[900:]) <= max(sizes[50:100]) + 40
    assert max(sizes) <= 400
    sessions.close()


def test_a_rested_session_becomes_items_and_then_goes(sessions: Sessions, tmp_path: Path) -> None:
    sessions.open("ses_1", scope="team/roofs", at=0)
    quoted = [Artefact("item", ITEM, "ab" * 32)]
    sessions.add("ses_1", "user", "The roof permit must be filed before 12 May.", at=1, artefacts=quoted)
    sessions.add("ses_1", "user", "Ada Byron prefers calls in the morning, always before 9.", at=2, subject="Ada Byron")
    assert rested(sessions, RULES, 7 * DAY, count=words) == []
    now = 7 * DAY + 2
    (made,) = rested(sessions, RULES, now, count=words)
    for_all, for_ada = made.items
    assert (for_all.text, for_all.subject) == ("The roof permit must be filed before 12 May.", "")
    assert for_all.fields == {"turns": "1", "items": ITEM}
    assert (for_ada.text, for_ada.subject) == ("Ada Byron prefers calls in the morning, always before 9.", "Ada Byron")
    assert for_ada.fields == {"turns": "2"}
    assert {(item.kind, item.scope, item.source) for item in made.items} == {("summary", "team/roofs", "session ses_1")}
    again = rested(sessions, RULES, now, count=words)
    assert [item_id(item) for item in again[0].items] == [item_id(item) for item in made.items]
    assert sessions.expire(RULES, 40 * DAY) == 0, "what was not summarised does not expire"
    sessions.summarised("ses_1", made.until)
    assert rested(sessions, RULES, now, count=words) == []
    assert sessions.expire(RULES, 29 * DAY) == 0
    assert sessions.expire(RULES, 31 * DAY) == 1
    assert b"Byron" not in raw(tmp_path)
    with pytest.raises(BadInput, match="session.unknown"):
        sessions.session("ses_1")


def test_a_session_that_goes_on_is_summarised_again(sessions: Sessions) -> None:
    say(sessions, "The roof permit must be filed before 12 May.")
    (made,) = rested(sessions, RULES, 8 * DAY, count=words)
    sessions.add("ses_1", "user", "It was changed to 14 May because of the holiday.", at=8 * DAY)
    sessions.summarised("ses_1", made.until)
    assert not sessions.session("ses_1").summarised
    assert len(rested(sessions, RULES, 16 * DAY, count=words)) == 1


def test_what_a_legal_hold_covers_does_not_expire(sessions: Sessions) -> None:
    quoted = [Artefact("item", ITEM, "ab" * 32)]
    for name, scope in (("ses_1", "person"), ("ses_2", "team/x"), ("ses_3", "person")):
        sessions.open(name, scope=scope, at=0)
        sessions.add(name, "user", "The roof.", at=1, artefacts=quoted if name == "ses_1" else [])
        sessions.summarised(name, 1)
    assert sessions.expire(RULES, 40 * DAY, held={ITEM, "team/x"}) == 1
    assert [one.id for one in sessions.newest()] == ["ses_1", "ses_2"]
    assert sessions.expire(RULES, 40 * DAY) == 2 and sessions.newest() == []


def test_who_forgets_a_summary_forgets_what_it_quotes(sessions: Sessions, tmp_path: Path) -> None:
    say(sessions, "The roof permit must be filed before 12 May.", "The gate must be closed at night, always.")
    (made,) = rested(sessions, RULES, 8 * DAY, count=words)
    sessions.summarised("ses_1", made.until, {ITEM: [1]})
    assert rested(sessions, RULES, 8 * DAY, count=words) == []
    assert sessions.erase_items([ITEM]) == 1
    assert b"12 May" not in raw(tmp_path) and b"at night" in raw(tmp_path)


def test_somebody_is_forgotten_where_it_is_asked_for(sessions: Sessions) -> None:
    for name, scope in (("ses_1", "device"), ("ses_2", "team/x")):
        sessions.open(name, scope=scope, at=0)
        sessions.add(name, "user", "Ada calls at nine.", at=1, subject="Ada")
    salt = "5a" * 32
    asked = stone("subject", scope="team/x", salt=salt, subject=subject_digest("Ada", salt))
    assert sessions.obey(asked, lambda scope: scope == "team/x") == 1
    assert [turn.erased for name in ("ses_1", "ses_2") for turn in sessions.turns(name)] == [False, True]


def test_a_reader_elsewhere_is_told_of_and_it_is_done_again(sessions: Sessions, tmp_path: Path) -> None:
    say(sessions, *TALK, "Quaggazebra must be called.")
    with contextlib.closing(sqlite3.connect(tmp_path / "sessions.sqlite3", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM turn").fetchall()
        sessions._db.execute("PRAGMA busy_timeout = 50")
        with pytest.raises(Unavailable, match="session.busy"):
            sessions.erase("ses_1")
    assert sessions.erase("ses_1") == 0
    assert b"Quaggazebra" not in raw(tmp_path)


def stone(kind: str, **more: str) -> Tombstone:
    given = {"scope": "", "item": "", "subject": "", "salt": "", "run": ""} | more
    return Tombstone(id="tmb_" + "0" * 24, kind=kind, at=0, by="user:eve", reason="request", **given)


async def test_forgetting_leaves_nothing_in_the_files(sessions: Sessions, tmp_path: Path) -> None:
    secret = "Zebraquagga"
    for number in range(40):
        say(sessions, *TALK, session=f"ses_{number}")
    sessions.open("ses_s", scope="team/x", at=0, run="run_7")
    sessions.add("ses_s", "user", f"{secret}one must be called before 12 May.", at=1, subject="Ada  BYRON")
    quoted = [Artefact("item", ITEM, "ab" * 32)]
    sessions.add("ses_s", "user", f"We decided that {secret}two owns the house.", at=2, artefacts=quoted)
    for text in TALK:
        sessions.add("ses_s", "user", text, at=3)
    summary = await fold(sessions, "ses_s")
    assert secret in repr(summary)
    assert raw(tmp_path).count(secret.encode()) >= 2

    salt = "5a" * 32
    assert sessions.obey(stone("subject", salt=salt, subject=subject_digest("ada byron", salt))) == 1
    assert f"{secret}one".encode() not in raw(tmp_path)
    assert sessions.obey(stone("item", item=ITEM)) == 1
    assert secret.encode() not in raw(tmp_path)
    assert secret not in repr(sessions.summary("ses_s"))
    assert [turn.erased for turn in sessions.turns("ses_s")][:3] == [True, True, False]
    assert sessions.obey(stone("item", item=ITEM)) == 0
    assert sessions.obey(stone("run", run="run_7")) == 1
    assert sessions.obey(stone("scope", scope="person")) == 40
    assert b"slate tiles" not in raw(tmp_path)


_CHILD = """
import sys
from pathlib import Path
from edge_agent.sessions import Sessions
class Dies(Sessions):
    def _wipe(self):
        if self._all("SELECT 1 FROM dirty"):
            print("erased", flush=True)
            sys.stdin.read()
sessions = Dies(Path(sys.argv[1]), count=len)
sessions.erase("ses_3")
"""


def test_a_kill_in_the_middle_of_an_erasure_is_made_up_for(sessions: Sessions, tmp_path: Path) -> None:
    for number in range(6):
        say(sessions, *TALK, f"Quaggazebra{number} must be called.", session=f"ses_{number}")
    sessions.close()
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path / "sessions.sqlite3")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout and child.stdin
    assert child.stdout.readline() == b"erased\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    child.stdin.close()
    assert b"Quaggazebra3" in raw(tmp_path), "the log beside the file still has it"
    again = Sessions(tmp_path / "sessions.sqlite3", count=len)
    assert b"Quaggazebra3" not in raw(tmp_path)
    assert b"Quaggazebra4" in raw(tmp_path)
    assert len(again.turns("ses_4")) == len(TALK) + 1
    again.close()


def test_folding_a_long_turn_is_quick(sessions: Sessions) -> None:
    sessions.open("ses_1", scope="person", at=0)
    sessions.add("ses_1", "user", "The wall must stand. " * 4_000, at=0)
    sessions.add("ses_1", "user", "x" * 100_000, at=0)
    sessions.add("ses_1", "user", "And now?", at=1)
    began = time.process_time()
    assert asyncio.run(fold(sessions, "ses_1")) is not None
    assert time.process_time() - began < 5
