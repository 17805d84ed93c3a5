"""The conformance suite passes an honest adapter, and catches each kind of liar by the promise that it breaks."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
import tomllib
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_agent.tools import Argument, Effect, Manual, NotSent, Receipt, Risk, Tool, check_arguments
from edge_agent.tools.conformance import ToolContract, broken_promises
from edge_agent.tools.register import Register, Withdraw
from shared.actions import Action
from shared.errors import BadInput, Refused, Unavailable

SECRET = "hunter2-of-the-board"
_POST = {"text": Argument(), "size": Argument("integer", required=False)}
_TAKE = {"note": Argument()}


@dataclass
class Board:
    """A receiver: a board of notes that knows keys, and can be out of reach."""

    notes: dict[str, str] = field(default_factory=dict)  # key: text
    taken: set[str] = field(default_factory=set)
    posted: Counter[str] = field(default_factory=Counter)
    away: bool = False


class Post(Tool):
    """Honest: every promise below is kept, and each liar breaks one."""

    name = "board.post"
    about = "Post a note on the board."
    effect: Effect = "reversible"
    risk: Risk = "low"
    idempotent = True
    askable = True
    arguments = _POST

    def __init__(self, board: Board) -> None:
        self.board = board

    def reach(self) -> Board:
        if self.board.away:
            raise NotSent("board.away", "the board is away", advice="wait for it")
        return self.board

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        board = self.reach()
        await asyncio.sleep(0)
        if key not in board.posted:
            self.act(board, action, key)
        return Receipt({"note": key, "size": len(str(action.arguments["text"]))})

    def act(self, board: Board, action: Action, key: str) -> None:
        board.posted[key] += 1
        board.notes[key] = str(action.arguments["text"])

    async def ask(self, key: str, action: Action) -> Receipt | None:
        if key not in self.reach().posted:
            return None
        return Receipt({"note": key, "size": len(str(action.arguments["text"]))})

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        text = self.reach().notes.get(key, "")
        return text == action.arguments["text"], {"text": text}

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        return Action("board.take", {"note": receipt["note"]}, action.subject)


class Take(Tool):
    """The undo of a post."""

    name = "board.take"
    about = "Take a note off the board."
    effect: Effect = "irreversible"
    idempotent = True
    askable = False
    arguments = _TAKE

    def __init__(self, board: Board) -> None:
        self.board = board

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        self.board.notes.pop(str(action.arguments["note"]), None)
        return Receipt({"taken": action.arguments["note"]})


class BoardContract(ToolContract):
    """The hooks for a board."""

    secrets = (SECRET,)
    tool: type[Tool] = Post
    take: type[Tool] = Take

    def __init__(self) -> None:
        self.board = Board()

    def make_tool(self) -> Tool:
        return self.tool(self.board)  # type: ignore[call-arg]  # each of them takes a board

    def tool_named(self, name: str) -> Tool:
        return self.take(self.board)  # type: ignore[call-arg]  # each of them takes a board

    def good_action(self, n: int) -> Action:
        return Action("board.post", {"text": f"note {n}"}, f"n-{n}")

    async def effects(self, action: Action | None) -> int:
        return self.board.posted.total() if action is None else self.board.posted[action.key]

    async def state(self) -> Any:
        return dict(self.board.notes)

    async def spoil(self, action: Action) -> None:
        self.board.notes[action.key] = "scribbled over"

    async def break_receiver(self) -> None:
        self.board.away = True

    async def mend_receiver(self) -> None:
        self.board.away = False


async def test_an_honest_adapter_breaks_no_promise() -> None:
    assert await broken_promises(BoardContract) == {}


# --- liars --------------------------------------------------------------------------------------------------------


class Misnamed(Post):
    name = "Board_Post"


class Unread(Post):
    """Looks at no argument before it acts."""

    async def send(self, action: Action, key: str) -> Receipt:
        self.act(self.reach(), Action(action.tool, {"text": "", **action.arguments}, action.subject), key)
        check_arguments(self, action)
        return Receipt({"note": key, "size": 0})


class Careless(Post):
    """Acts, and then looks at the arguments."""

    async def send(self, action: Action, key: str) -> Receipt:
        self.reach().posted[key] += 1
        return await super().send(action, key)


class Repeating(Post):
    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        self.act(self.reach(), action, key)
        return Receipt({"note": key, "size": 0})


class Racing(Post):
    """Looks, waits, and then acts on what it saw before."""

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        known = key in self.reach().posted
        await asyncio.sleep(0.001)
        if not known:
            self.act(self.board, action, key)
        return Receipt({"note": key, "size": 0})


class Behind(Post):
    """Hands the work to a background that a cut-off does not reach, and that nothing tells about the key."""

    def __init__(self, board: Board) -> None:
        super().__init__(board)
        self.work: set[asyncio.Task[None]] = set()

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        if key not in self.reach().posted:
            task = asyncio.create_task(self.later(action, key))
            self.work.add(task)
            await asyncio.shield(task)
        return Receipt({"note": key, "size": 0})

    async def later(self, action: Action, key: str) -> None:
        await asyncio.sleep(0.02)
        self.act(self.board, action, key)


class Forgetful(Post):
    """Keeps the keys to itself, so that a restart loses them."""

    def __init__(self, board: Board) -> None:
        super().__init__(board)
        self.known: set[str] = set()

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        if key not in self.known:
            self.known.add(key)
            self.act(self.reach(), action, key)
        return Receipt({"note": key, "size": len(str(action.arguments["text"]))})

    async def ask(self, key: str, action: Action) -> Receipt | None:
        return await super().ask(key, action) if key in self.known else None


class Numbered(Post):
    """Gives another receipt to the same key."""

    async def send(self, action: Action, key: str) -> Receipt:
        receipt = await super().send(action, key)
        self.board.taken.add(f"{key}{len(self.board.taken)}")
        return Receipt({**receipt.details, "number": len(self.board.taken)})


class Mixing(Post):
    """Keeps the action at hand in itself, across a wait."""

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        self.at_hand = action
        await asyncio.sleep(0.001)
        if key not in self.reach().posted:
            self.act(self.board, self.at_hand, key)
        return Receipt({"note": key, "size": len(str(action.arguments["text"]))})


class Asking(Post):
    """Acts when it is asked."""

    async def ask(self, key: str, action: Action) -> Receipt | None:
        if key not in self.reach().posted:
            self.act(self.board, action, key)
            return None
        return await super().ask(key, action)


class Agreeing(Post):
    """Knows every key."""

    async def ask(self, key: str, action: Action) -> Receipt | None:
        return Receipt({"note": key, "size": 0})


class Denying(Post):
    """Says 'never heard of it' when it could not look."""

    async def ask(self, key: str, action: Action) -> Receipt | None:
        return None if self.board.away else await super().ask(key, action)


class Scant(Post):
    """Its answer for a key cannot be undone as its receipt can."""

    async def ask(self, key: str, action: Action) -> Receipt | None:
        told = await super().ask(key, action)
        return told and Receipt({**told.details, "note": "?"})


class Floating(Post):
    async def send(self, action: Action, key: str) -> Receipt:
        return Receipt({**(await super().send(action, key)).details, "seconds": 0.25})


class Wordy(Post):
    async def send(self, action: Action, key: str) -> Receipt:
        return Receipt({**(await super().send(action, key)).details, "page": "x" * 200_000})


class Telling(Post):
    async def send(self, action: Action, key: str) -> Receipt:
        return Receipt({**(await super().send(action, key)).details, "login": f"me:{SECRET}"})


class Blurting(Post):
    """Tells the secret when it fails."""

    def reach(self) -> Board:
        if self.board.away:
            raise NotSent("board.away", f"me:{SECRET}@board is away", advice="wait for it")
        return self.board


class Leaking(Post):
    """Lets a third party's exception through."""

    def reach(self) -> Board:
        if self.board.away:
            raise ConnectionRefusedError("board:7")
        return self.board


class Mistaking(Post):
    """Says that the receiver refused when it was not there."""

    def reach(self) -> Board:
        if self.board.away:
            raise Refused("board.away", "the board is away", advice="wait for it")
        return self.board


class Coarse(Post):
    """Tells its error without a code."""

    def reach(self) -> Board:
        if self.board.away:
            raise NotSent("It broke!", "the board is away", advice="wait for it")
        return self.board


class Unsure(Post):
    """Says that surely nothing happened when it did."""

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        if self.board.away:
            self.act(self.board, action, key)
        return await super().send(action, key)


class Eager(Post):
    """Cannot be made while the board is away."""

    def __init__(self, board: Board) -> None:
        super().__init__(board)
        if board.away:
            raise Unavailable("board.away", "the board is away", advice="wait for it")


class Blind(Post):
    """Says that it looked."""

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        return True, {}


class Shortsighted(Post):
    """Takes a board that is away for an empty one."""

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        return (False, {}) if self.board.away else await super().observe(action, key, receipt)


class Handing(Post):
    """Says reversible, and leaves it to a person."""

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        return Manual(["Take the note off."])


class Halfway(Take):
    """Takes the note off, and leaves its pin."""

    async def send(self, action: Action, key: str) -> Receipt:
        self.board.notes[str(action.arguments["note"])] = ""
        return Receipt({})


class Toggling(Take):
    """Taken off twice, the note is there again."""

    async def send(self, action: Action, key: str) -> Receipt:
        if self.board.notes.pop(str(action.arguments["note"]), None) is None:
            self.board.notes[str(action.arguments["note"])] = "back"
        return Receipt({})


class Resolute(Post):
    """Cannot be undone, and does not say what a person should do."""

    effect: Effect = "irreversible"

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        return None


class Peeking(Post):
    """Calls itself a read."""

    effect: Effect = "read"

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        return None


class Closing(Post):
    async def close(self) -> None:
        if self.board.taken:
            raise BadInput("board.closed", "it is closed already", advice="close it once")
        self.board.taken.add("closed")


ARGUMENTS = "test_wrong_arguments_are_refused_before_anything_happens"
ONCE = "test_sending_acts_once_and_gives_a_plain_receipt"
AGAIN = "test_a_key_sent_again_acts_once"
CUT = "test_a_call_cut_off_and_sent_again_acts_once"
AT_ONCE = "test_actions_sent_at_once_do_not_mix"
ASKED = "test_it_answers_for_a_key_without_acting"
OBSERVED = "test_it_reads_the_outcome_back"
UNDONE = "test_its_undo_is_what_its_effect_says"
AWAY = "test_a_receiver_out_of_reach_is_told_as_that"
MADE = "test_it_can_be_made_while_the_receiver_is_away"
CLOSED = "test_closing_twice_is_harmless"


@pytest.mark.parametrize(
    ("liar", "check", "said"),
    [
        (Misnamed, "test_it_declares_itself", "is no tool's name"),
        (Unread, ARGUMENTS, "after an unknown argument: 1 effects"),
        (Careless, ARGUMENTS, "after an unknown argument: 1 effects"),
        (Repeating, AGAIN, "sent twice: 2 effects"),
        (Repeating, CUT, "sent again: 2 effects"),
        (Racing, AGAIN, "sent 5 times at once: 5 effects"),
        (Behind, CUT, "effects, not 1"),
        (Forgetful, AGAIN, "after a restart: 2 effects"),
        (Forgetful, ASKED, "after a restart, ask does not know the key"),
        (Numbered, AGAIN, "the receipts differ"),
        (Mixing, AT_ONCE, "one's outcome is not there"),
        (Asking, ASKED, "after ask: 1 effects"),
        (Agreeing, ASKED, "a key that was never sent"),
        (Denying, AWAY, "never heard of a key"),
        (Scant, ASKED, "made of ask's receipt is another"),
        (Floating, ONCE, "codec.float"),
        (Wordy, ONCE, "bytes, more than"),
        (Telling, ONCE, "a secret stands in the receipt"),
        (Blurting, AWAY, "a secret stands in the error"),
        (Leaking, AWAY, "ConnectionRefusedError"),
        (Mistaking, AWAY, "Refused: [board.away]"),
        (Coarse, AWAY, "is no error code"),
        (Unsure, AWAY, "after NotSent: 1 effects"),
        (Eager, MADE, "Unavailable"),
        (Blind, OBSERVED, "the outcome is gone"),
        (Shortsighted, AWAY, "observe says it is gone"),
        (Handing, UNDONE, "undo is an action"),
        (Resolute, UNDONE, "a person's steps"),
        (Peeking, ONCE, "a read changed the receiver"),
        (Closing, CLOSED, "it is closed already"),
    ],
)
async def test_a_liar_is_caught(liar: type[Tool], check: str, said: str) -> None:
    broken = await broken_promises(type("Liar", (BoardContract,), {"tool": liar}))
    assert said in broken[check]


@pytest.mark.parametrize(
    ("take", "said"), [(Halfway, "sent, does not restore"), (Toggling, "sent twice, does not restore")]
)
async def test_an_undo_that_does_not_restore_is_caught(take: type[Tool], said: str) -> None:
    broken = await broken_promises(type("Liar", (BoardContract,), {"take": take}))
    assert list(broken) == [UNDONE] and said in broken[UNDONE]


@pytest.mark.parametrize(
    ("hook", "checks"),
    [
        ("state", {UNDONE}),
        ("spoil", {OBSERVED}),
        ("tool_named", {UNDONE}),
        ("break_receiver", {AWAY, MADE}),
    ],
)
async def test_what_cannot_be_shown_is_not_promised(hook: str, checks: set[str]) -> None:
    without = type("Without", (BoardContract,), {hook: getattr(ToolContract, hook)})
    broken = await broken_promises(without)
    assert set(broken) == checks
    assert all("NotImplementedError" in why for why in broken.values())


async def test_what_is_not_promised_is_not_checked() -> None:
    class Modest(Post):
        """Repeating, blind and without memory, and says so."""

        effect: Effect = "irreversible"
        idempotent = False
        askable = False
        reads_back = False
        send = Repeating.send
        observe = Tool.observe
        undo = Tool.undo

    assert await broken_promises(type("Modest", (BoardContract,), {"tool": Modest})) == {}


# --- the register -------------------------------------------------------------------------------------------------


class TestRegister(ToolContract):
    """The case register keeps what it declares."""

    @pytest.fixture(autouse=True)
    def world(self, tmp_path: Path) -> None:
        self.away = tmp_path / "away"
        self.file = tmp_path / "city" / "register.sqlite3"
        self.file.parent.mkdir()

    def make_tool(self) -> Tool:
        return Register(self.file)

    def good_action(self, n: int) -> Action:
        arguments: dict[str, Any] = {"application_id": f"PA-{n}", "lane": "express", "reason": "same size"}
        return Action("register.decide", arguments, f"PA-{n}")

    def rows(self, sql: str, *values: Any) -> list[Any]:
        if not self.file.exists():
            return []
        with closing(sqlite3.connect(self.file, isolation_level=None)) as db:
            return db.execute(sql, values).fetchall()

    async def effects(self, action: Action | None) -> int:
        return len(
            self.rows(
                "SELECT 1 FROM decisions" + (" WHERE key = ?" if action else ""), *([action.key] if action else [])
            )
        )

    async def state(self) -> Any:
        return self.rows("SELECT application_id, lane FROM decisions")

    async def spoil(self, action: Action) -> None:
        self.rows("UPDATE decisions SET lane = 'other' WHERE key = ?", action.key)

    async def break_receiver(self) -> None:
        self.file.parent.rename(self.away)

    async def mend_receiver(self) -> None:
        self.away.rename(self.file.parent)

    def tool_named(self, name: str) -> Tool:
        return {"register.decide": Register, "register.withdraw": Withdraw}[name](self.file)


class TestWithdraw(TestRegister):
    """And so does taking a decision back."""

    @pytest.fixture(autouse=True)
    async def decided(self, world: None) -> None:
        """Every application these tests take back was decided before."""
        for n in range(20):
            arguments: dict[str, Any] = {"application_id": f"PA-{n}", "lane": "express", "reason": "same size"}
            action = Action("register.decide", arguments, f"PA-{n}")
            await Register(self.file).send(action, action.key)

    def make_tool(self) -> Tool:
        return Withdraw(self.file)

    def good_action(self, n: int) -> Action:
        return Action("register.withdraw", {"application_id": f"PA-{n}", "lane": "express"}, f"PA-{n}")

    async def effects(self, action: Action | None) -> int:
        sql = "SELECT 1 FROM withdrawals" + (" WHERE key = ?" if action else "")
        return len(self.rows(sql, *([action.key] if action else [])))

    async def state(self) -> Any:
        return self.rows("SELECT application_id, lane FROM decisions ORDER BY application_id")

    async def spoil(self, action: Action) -> None:
        number = action.arguments["application_id"]
        self.rows(
            "INSERT INTO decisions VALUES ('other', ?, 'express', NULL, 'by hand', 1, 1)"
            " ON CONFLICT (application_id) DO NOTHING",
            number,
        )


def test_the_suite_needs_no_pytest(tmp_path: Path) -> None:
    """Where pytest cannot be imported at all, the suite still runs."""
    script = tmp_path / "alone.py"
    script.write_text(
        "import asyncio, sys\n"
        "sys.modules['pytest'] = None\n"
        "from edge_agent.tools.conformance import ToolContract, broken_promises\n"
        "print(len(asyncio.run(broken_promises(ToolContract))))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 10  # each check says which hook it misses


# --- the how-to ---------------------------------------------------------------------------------------------------

_INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
HOW_TO = Path(__file__).parents[3] / "docs" / "how-to" / "write-an-adapter.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", HOW_TO.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_adapter_of_the_how_to_keeps_its_promises(tmp_path: Path) -> None:
    """Its code is taken from the page as it stands, packaged as the page says, and run."""
    adapter, contract = blocks("python")
    package, table = blocks("toml")
    (tmp_path / "outrider_todo.py").write_text(adapter)
    (tmp_path / "test_todo.py").write_text(contract)
    (tmp_path / "pytest.ini").write_text(_INI)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "test_todo.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    checks = sum(name.startswith("test_") for name in dir(ToolContract))
    assert f"{checks} passed" in done.stdout, done.stdout + done.stderr

    meta = tomllib.loads(package)["project"]
    installed = tmp_path / f"outrider_todo-{meta['version']}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Name: {meta['name']}\nVersion: {meta['version']}\n")
    points = meta["entry-points"]["outrider.tools"]
    (installed / "entry_points.txt").write_text(
        "[outrider.tools]\n" + "".join(f"{name} = {at}\n" for name, at in points.items())
    )
    (tmp_path / "tools.toml").write_text(table)
    script = (
        "from pathlib import Path; from edge_agent.tools.build import build\n"
        "tools, troubles = build(Path('tools.toml'), Path('state'), secret=str, now=lambda: 1)\n"
        "print(*sorted(tools), *troubles)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["team.add", "team.drop"], done.stderr


def test_the_how_to_names_each_hook_and_no_other() -> None:
    hooks = {
        name
        for name, value in vars(ToolContract).items()
        if not name.startswith(("_", "test_")) and (callable(value) or name == "secrets")
    }
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", HOW_TO.read_text("utf-8").partition("| Hook |")[2], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"[a-z_]+", row)} == hooks
