"""The documentation says what the code does: all of it, and nothing else.

Lists are read from the code (commands from typer, settings and fields from the structs and models, error codes from the
syntax tree) and compared with the pages both ways where a page names such things in a form that can be found again.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import click
import msgspec
import pytest
import typer

from edge_agent.config import PREFIX, Config
from edge_agent.tools.build import GROUP as TOOLS
from server.authoring.commands import TOKEN
from server.config import HubConfig
from server.store.tables import METADATA
from shared import limits
from shared import playbook as playbooks
from shared.command import ABOUT, GROUP, SERVICES
from shared.entries import FACTS, ItemRef, Switch
from shared.errors import KINDS, BadInput
from shared.facts.rollouts import Plan
from shared.playbook import parts
from shared.policy import HOST_RULES, Policy
from shared.runs import OUTCOMES
from shared.runs import state as outcomes
from shared.runs.fold import RUN_ORDERS, STEP_ORDERS
from shared.triage import extract, rules

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
PACKAGES = ("shared", "edge_agent", "server")
GROUPS: dict[str, typer.Typer] = {name: part.load() for name in ABOUT for part in entry_points(group=GROUP, name=name)}
TYPERS_OWN = {"--help", "--install-completion", "--show-completion"}
STARTER = ROOT / "server" / "starter" / "permits"


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of the same or a higher level."""
    level = len(heading) - len(heading.lstrip("#"))
    found = re.search(rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{level}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no heading {heading!r}"
    return found[1]


def named(text: str) -> set[str]:
    """What stands between backticks, outside of fenced blocks."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)))


def first_cells(text: str) -> set[str]:
    """Everything between backticks in the first cell of each table row."""
    return {name for row in re.findall(r"^\| *([^|]*?) *\|", text, re.MULTILINE) for name in named(row)}


# --- commands -----------------------------------------------------------------------------------------------------


def _leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    inside: dict[str, click.Command] = getattr(command, "commands", {})  # typer's groups are not always click's
    if inside:
        for name, inner in inside.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield " ".join(path), command


@cache
def commands() -> dict[str, click.Command]:
    """Every command that does something, by its words."""
    return {
        words: command
        for name, group in GROUPS.items()
        for words, command in _leaves(typer.main.get_command(group), ("outrider", name))
    }


def options(command: click.Command) -> set[str]:
    given = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    return {opt for parameter in given for opt in (*parameter.opts, *parameter.secondary_opts)} - TYPERS_OWN


def described() -> dict[str, str]:
    """Each command's part of the page, by its words; arguments in the heading are left out."""
    text = page("reference/commands.md")
    parts = {}
    for heading in re.findall(r"^###? `outrider [^`]+`$", text, re.MULTILINE):
        words = heading.strip("#` ").split()
        plain = " ".join(word for word in words if word == word.lower() and not word.startswith("["))
        parts[plain] = section(text, heading)
    return parts


def test_the_groups_are_those_of_the_outrider_command() -> None:
    assert set(GROUPS) == set(ABOUT)


@pytest.mark.parametrize("words", commands())
def test_each_command_and_each_of_its_options_is_described(words: str) -> None:
    parts = described()
    assert words in parts
    said = {name.split()[0] for name in named(parts[words])}
    assert options(commands()[words]) <= said


def test_no_command_or_option_is_described_that_is_not_there() -> None:
    real = commands()
    groups = {f"outrider {name}" for name in GROUPS}
    for words, text in described().items():
        if words in groups - set(real):
            continue  # the heading of a group
        assert words in real
        rows = {name.split()[0] for name in first_cells(text) if name.startswith("--")}
        assert rows <= options(real[words]), words


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_shown_in_any_page_exist(path: Path) -> None:
    real = commands()
    for line in re.findall(r"(?:^|`|\$\(|[\"= ])(outrider [a-z][^\n`)]*)", path.read_text("utf-8"), re.MULTILINE):
        words = line.split()
        if words[1] not in GROUPS:
            assert words[1] in ("help", "init") or not re.fullmatch(r"[a-z]+", words[1]), line
            continue
        known = [name for name in real if line.startswith(name)]
        group = any(name.startswith(f"outrider {words[1]} ") for name in real)
        assert known or (group and len(words) == 2), line
        for given in re.findall(r"(?<=\s)--[a-z][a-z0-9-]*", line):
            assert given in options(real[max(known, key=len)]) | TYPERS_OWN, line


def test_each_make_target_is_described_and_no_other() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    rows = {name.split()[1] for name in first_cells(page("reference/commands.md")) if name.startswith("make ")}
    assert rows == targets
    for path in PAGES:
        shown = re.findall(r"(?:^ *|`)make ([a-z]+)\b", path.read_text("utf-8"), re.MULTILINE)
        assert set(shown) <= targets, path


# --- settings -----------------------------------------------------------------------------------------------------


def settings() -> dict[str, str]:
    """Every variable, with its default as the page writes it."""
    hub = {
        f"{HubConfig.model_config['env_prefix']}{name}": about.get_default(call_default_factory=True)
        for name, about in HubConfig.model_fields.items()
    }
    agent = {f"{PREFIX}{field.name}": field.default for field in msgspec.structs.fields(Config)}
    return {name.upper(): _as_written(default) for name, default in {**agent, **hub}.items()}


def _as_written(default: object) -> str:
    if default is None:
        return "not set"
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_each_setting_is_described_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(OUTRIDER_[A-Z_]+)` \| ([^|]+?) \|", page("reference/settings.md"), re.MULTILINE))
    assert {name: text.strip("`") for name, text in rows.items()} == settings()


def test_no_page_names_a_setting_that_is_not_there() -> None:
    known = set(settings()) | {"OUTRIDER_DATA", "OUTRIDER_", "OUTRIDER_HUB_", TOKEN}
    for path in PAGES:
        assert set(re.findall(r"\bOUTRIDER_[A-Z_]*", path.read_text("utf-8"))) <= known, path


# --- playbooks and policy -----------------------------------------------------------------------------------------

PARTS: list[tuple[str, list[type[msgspec.Struct]]]] = [
    ("## The playbook", [playbooks.Playbook]),
    ("## Trigger", [playbooks.Trigger]),
    ("## Inputs", [playbooks.Input]),
    ("## Context", [playbooks.Context, playbooks.MemoryContext]),
    ("## Lanes", [playbooks.Lane]),
    ("## Rules", [playbooks.Rule]),
    ("## Steps", [playbooks.PlaybookStep, playbooks.Confidence]),
    ("## Waits", [playbooks.Wait]),
    ("## Undo", [playbooks.ToolUse]),
    ("## Approvals", [playbooks.Approvals, playbooks.Escalation]),
    ("## Budgets", [playbooks.Budgets, playbooks.Budget]),
]


def fields(kinds: list[type[msgspec.Struct]]) -> set[str]:
    """Their names as they are written, ``with`` and not ``with_``."""
    return {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize(("heading", "kinds"), PARTS, ids=lambda value: str(value)[:20])
def test_each_field_of_a_playbook_is_described(heading: str, kinds: list[type[msgspec.Struct]]) -> None:
    assert fields(kinds) <= named(section(page("reference/playbook.md"), heading))


def test_no_field_of_a_playbook_is_described_that_is_not_there() -> None:
    text = page("reference/playbook.md")
    for heading, kinds in PARTS:
        extra = fields([rules._Clause, rules._When, rules.Then]) if heading == "## Rules" else set()
        extra |= {"none", "undo:"} if heading == "## Undo" else set()
        # A table of this page has its field names in the first cell.
        assert first_cells(section(text, heading)) <= fields(kinds) | extra, heading


def test_every_part_of_a_playbook_has_its_section() -> None:
    found = {kind for kind in vars(parts).values() if isinstance(kind, type) and issubclass(kind, parts._Part)}
    assert found - {parts._Part} == {kind for _, kinds in PARTS for kind in kinds}


def test_defaults_of_a_playbook_are_told() -> None:
    """Where a table has a column for them."""
    steps = dict(
        re.findall(r"^\| `([a-z_]+)` \| `([^`|]+)` \|", section(page("reference/playbook.md"), "## Steps"), re.M)
    )
    plain = playbooks.PlaybookStep(id="a")
    real = {"on_failure": plain.on_failure, "at_once": str(plain.at_once), "floor": str(plain.confidence.floor)}
    assert steps == real
    assert playbooks.Approvals(roles=["a"]).expires == "14d" and "| `14d` |" in page("reference/playbook.md")
    assert f"at most {limits.FOR_EACH_ITEMS:,}" in page("reference/playbook.md")
    assert f"1 to {limits.PLAYBOOK_STEPS}, those within others included" in page("reference/playbook.md")
    assert f"at most {limits.EVENT_DAYS} days" in page("reference/playbook.md")


def examples(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)


SHOWN = [(path, text) for path in PAGES for text in examples(path, "yaml") if text.startswith("playbook:")]


@pytest.mark.parametrize(("path", "text"), SHOWN, ids=lambda value: value.name if isinstance(value, Path) else "")
def test_playbooks_shown_in_any_page_can_be_published(path: Path, text: str) -> None:
    book = playbooks.load(text, path.name, new=True)
    assert book.digest


def test_how_to_write_a_playbook_shows_what_it_speaks_of() -> None:
    guide = DOCS / "how-to" / "write-a-playbook.md"
    books = [playbooks.load(text, "x") for path, text in SHOWN if path == guide]
    kinds = {step.kind for book in books for step in book.all_steps}
    assert {"tool", "confirm", "wait", "together", "for_each", "planner"} <= kinds
    assert any(book.approvals.escalate for book in books) and any(book.trigger.assistant for book in books)
    shop = examples(guide, "yaml")[0]
    for old, new in (
        ("          tool: site.move\n", "          tol: site.move\n"),
        ('subject: "${inputs.title} is here"', 'subject: "${title} is here"'),
    ):
        with pytest.raises(BadInput) as caught:
            playbooks.load(shop.replace(old, new), "playbooks/publish-product.yaml")
        error = caught.value
        said = f"error [{error.code}] {error.where}: {error.message}\n  → {error.advice}\n"
        assert said in guide.read_text("utf-8")


@pytest.mark.parametrize("name", ["how-to/write-a-policy.md"])
def test_the_rules_of_a_guide_are_a_policy(name: str) -> None:
    schema = (STARTER / "schema.cedarschema").read_text("utf-8")
    text = "\n".join(examples(DOCS / name, "cedar"))
    policy = Policy(text, schema, new=True)
    asked = [rule for rule in policy.rules.values() if rule.people > 1 or rule.similar_s or rule.local]
    assert len(policy.rules) > 5 and len(asked) >= 3 and all(rule.about for rule in policy.rules.values())


# --- entries ------------------------------------------------------------------------------------------------------

NEWEST = {name: kind for (name, _), kind in sorted(FACTS.items())}
_SORTS = {
    str: "text",
    int: "integer",
    bool: "true or false",
    list[str]: "list of text",
    dict[str, int]: "mapping to integers",
    dict[str, str]: "mapping to text",
    list[ItemRef]: "list of `id`, `sha256`",
    list[Switch]: "list of switches",
    dict[str, int | bool | str]: "mapping",
    Plan: "a plan",
}


@pytest.mark.parametrize("name", NEWEST)
def test_each_entry_type_is_described_with_its_fields(name: str) -> None:
    """In their order, with their types, and with the version that brought them."""
    text = section(page("reference/entries.md"), f"### `{name}`")
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| ([^|]+) \| (.+) \|$", text, re.MULTILINE)
    first = FACTS[name, 1].__struct_fields__
    assert [(field, sort) for field, sort, _ in rows] == [
        (field.name, _SORTS[field.type]) for field in msgspec.structs.fields(NEWEST[name])
    ]
    since = {field: re.findall(r"\*Since v(\d+)\.\*", said) for field, _, said in rows}
    for field in NEWEST[name].__struct_fields__:
        versions = [v for (one, v), kind in FACTS.items() if one == name and field in kind.__struct_fields__]
        assert since[field] == ([] if field in first else [str(min(versions))]), field
    assert text.strip().split("\n")[0].endswith("."), "a sentence says when it is written"


def test_no_entry_type_is_described_that_is_not_there() -> None:
    assert sorted(re.findall(r"^### `([a-z.]+)`$", page("reference/entries.md"), re.MULTILINE)) == sorted(NEWEST)


def test_outcomes_and_orders_are_told() -> None:
    closed = section(page("reference/entries.md"), "### `run.closed`")
    assert set(OUTCOMES) <= named(closed)
    assert {*RUN_ORDERS, *STEP_ORDERS} <= named(section(page("reference/entries.md"), "### `run.ordered`"))


def test_the_grammar_of_rules_and_fields_is_described() -> None:
    text = page("reference/playbook.md")
    said = {word for name in named(section(text, "## Rules")) for word in re.findall(r"\w+", name)}
    assert fields([rules._Clause, rules._When, rules.Then]) <= said
    assert fields([extract._Form]) <= named(section(text, "## Fields"))
    kinds = set(extract.Kind.__args__)  # type: ignore[attr-defined]  # a Literal has them
    assert kinds == first_cells(section(text, "## Fields"))


def test_each_host_rule_is_described_and_no_other() -> None:
    assert first_cells(section(page("reference/policy.md"), "## Rules that need no policy")) == set(HOST_RULES)
    for path in PAGES:
        found = set(re.findall(r"`((?:host|cedar):[a-z-]+)`", path.read_text("utf-8")))
        assert found <= set(HOST_RULES), path


def test_each_field_of_the_context_is_described_with_its_type() -> None:
    schema = (STARTER / "schema.cedarschema").read_text("utf-8")
    declared = dict(re.findall(r"^  ([a-z_]+): (String|Long|Bool),", schema, re.MULTILINE))
    table = section(page("reference/policy.md"), "## The context")
    assert dict(re.findall(r"^\| `([a-z_]+)` \| (String|Long|Bool) \|", table, re.MULTILINE)) == declared
    for name in PAGES:
        used = set(re.findall(r"\bcontext\.([a-z_]+)", name.read_text("utf-8"))) - {
            "memory",
            "recalled",
        }  # not policy's
        assert used <= set(declared), name


def test_the_starters_rules_are_told() -> None:
    policy = (STARTER / "policy.cedar").read_text("utf-8")
    told = first_cells(section(page("reference/policy.md"), "## The starter's rules"))
    assert told == set(re.findall(r'@id\("([^"]+)"\)', policy))


# --- error codes --------------------------------------------------------------------------------------------------

_CODE = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9][a-z0-9-]*)+")
# NotSent: surely nothing happened. Stopped: a person's stop came before the sending.
# hostile: makes the error for a change that no honest writer makes.
_KIND_OF = {
    **dict(zip(KINDS, KINDS, strict=True)),
    "NotSent": "Unavailable",
    "Stopped": "Unavailable",
    "hostile": "Tampered",
}
# Calls whose text arguments are codes: our errors, what a run or question ended with, and what the console shows.
_CALLS = {*_KIND_OF, "Failure", "Next", "_broken", "_bad", "drop", "_void", "_leave"}
_OUTCOMES = {name for name, value in vars(outcomes).items() if value in outcomes.OUTCOMES and isinstance(value, str)}
# What looks like a code and is none: tools, groups of entry points, modules, an operator's name space, file names that
# are constants, paths of a playbook.
NO_CODES = {
    "register.withdraw",
    "register.decide", "person.confirm", GROUP, SERVICES, TOOLS, "cel.cel", "com.microsoft", "accepted.json",
    "server.log", "approvals.roles", "context.memory", "trigger.folder",
}  # fmt: skip
_FILE = re.compile(r".*\.(json|toml|log|db|key|lock|cedar|token|yaml|sqlite3(-wal|-shm|-head|-actor)?)")
ENTRY_TYPES = {name for name, _ in FACTS}


def _texts(node: ast.AST) -> Iterator[str]:
    """Plain strings of an expression, both arms of a condition included."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _codes_of(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(kind or empty, code) of every literal code in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in _CALLS:
                for argument in node.args[:1] if called in _KIND_OF else node.args:
                    yield from ((_KIND_OF.get(called, ""), text) for text in _texts(argument))
            for keyword in node.keywords:
                if keyword.arg in ("code", "void_code", "abstained"):
                    yield from (("", text) for text in _texts(keyword.value))
        # A constant of its own (NO_TEXT = "plan.no-text"), or a code chosen before it is raised.
        elif isinstance(node, ast.Assign):
            names = {name.id for name in node.targets if isinstance(name, ast.Name)}
            if names and all(name.isupper() or name == "code" for name in names):
                yield from (("", text) for text in _texts(node.value))
        # How a run or step ended: an outcome and its code.
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and _name(node.elts[0]) in _OUTCOMES:
            yield from (("", text) for text in _texts(node.elts[1]))
        elif isinstance(node, ast.For) and "code" in map(_name, ast.walk(node.target)):
            yield from (("", text) for part in ast.walk(node.iter) for text in _texts(part))


@cache
def codes() -> dict[str, set[str]]:
    """Every literal error code in the sources, with the kinds it is raised as."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for kind, text in _codes_of(ast.parse(path.read_text("utf-8"))):
                if _CODE.fullmatch(text) and text not in NO_CODES:
                    found.setdefault(text, set()).update({kind} - {""})
    found["hub.internal"] = set()  # written into an answer as it is
    return found


def table() -> dict[str, set[str]]:
    """The page's codes, with the kinds it gives them."""
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", page("reference/errors.md"), re.MULTILINE)
    pairs = [(code, kinds) for code, kinds in rows if code not in KINDS]
    assert len({code for code, _ in pairs}) == len(pairs), "a code stands twice"
    return {code: {kind.strip() for kind in kinds.split(",")} - {"—"} for code, kinds in pairs}


def test_each_error_code_is_described_and_no_other() -> None:
    real, told = codes(), table()
    assert sorted(set(real) - set(told)) == []
    assert sorted(set(told) - set(real)) == []


def test_codes_are_described_with_the_kinds_they_are_raised_as() -> None:
    told = table()
    for code, kinds in codes().items():
        assert kinds <= told[code], code


def test_every_row_says_what_happened_and_what_to_do() -> None:
    for row in re.findall(r"^\| `[a-z0-9.-]+` \|.*$", page("reference/errors.md"), re.MULTILINE):
        assert all(len(cell.strip()) > 0 for cell in row.strip("|").split("|")), row


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_names_a_code_that_is_not_there(path: Path) -> None:
    real = codes()
    rooms = {code.partition(".")[0] for code in real}
    for text in named(path.read_text("utf-8")):
        if _CODE.fullmatch(text) and text.partition(".")[0] in rooms:
            assert text in real or text in ENTRY_TYPES or text in NO_CODES or _FILE.fullmatch(text), text


# --- files, links -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{target} in {path.name}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target


def test_the_index_leads_to_every_page() -> None:
    text = page("index.md")
    missing = [p for p in DOCS.rglob("*.md") if p.name != "index.md" and f"({p.relative_to(DOCS)})" not in text]
    assert missing == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_files_named_in_a_page_exist(path: Path) -> None:
    for name in named(path.read_text("utf-8")):
        if re.fullmatch(r"(shared|edge_agent|server|installers|tests)/[\w./-]*", name):
            assert (ROOT / name).exists(), name


def test_the_files_page_names_every_table_of_both_databases() -> None:
    schema = (ROOT / "edge_agent" / "journal" / "schema.py").read_text("utf-8")
    of_log = set(re.findall(r"^CREATE (?:TABLE|VIEW) (\w+)", schema, re.MULTILINE))
    assert of_log
    assert of_log | set(METADATA.tables) <= named(page("reference/files.md"))


def test_functions_named_in_the_architecture_exist() -> None:
    """``Class.method`` and ``module.function`` of the page stand in the sources under that name."""
    sources = "\n".join(path.read_text("utf-8") for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    defined = set(re.findall(r"^ *(?:async )?(?:def|class) (\w+)", sources, re.MULTILINE))
    for name in named(page("explanation/architecture.md")) - ENTRY_TYPES:
        found = re.fullmatch(r"(?:[A-Z]\w+|[a-z]+|shared\.[a-z]+)\.([a-z_]+)", name)
        if found and found[1] not in ("toml", "md"):
            assert found[1] in defined, name


def test_the_http_page_names_every_route_of_the_api() -> None:
    text = page("reference/http.md")
    for path in re.findall(r'add_api_route\("(/[^"]+)"', (ROOT / "server" / "api.py").read_text("utf-8")):
        assert path in text
    for source in (ROOT / "server" / "console").glob("*.py"):
        for path in re.findall(r'(?:add|add_api_route)\("(/[^"]*)"', source.read_text("utf-8")):
            plain = re.sub(r"\{[a-z:]+\}", "ID", path)
            assert plain in text or plain in ("/static/ID", "/runs/ID"), path
