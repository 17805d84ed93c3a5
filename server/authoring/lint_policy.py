"""Lint of the policy: rules that can never match, names that nothing has, rules that others make pointless.

A rule is read as Cedar reads it (its JSON form). Its conditions are taken apart into alternatives; where each of them
contradicts itself, or what the guard ever tells, the rule never matches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import cedarpy
import msgspec

from server.authoring.conditions import Atom, alternatives, contradiction
from server.authoring.findings import Finding, Known, line_of, meant, nearest, warn
from server.releases.workspace import POLICY
from shared import cedar
from shared.playbook import Playbook, ToolUse
from shared.release import Release
from shared.runs import UNDO

_OWN_TOOLS = frozenset(("person.confirm", "register.decide", "register.withdraw"))  # every agent has them
_WORDS = {  # what the guard says where it says one of a few words
    "planner": frozenset(("rules", "memory", "model", "playbook", "assistant", "undo")),
    "effect": frozenset(("read", "reversible", "compensatable", "irreversible")),
    "urgency": frozenset(("interactive", "background", "batch")),
    "data_class": frozenset(("public", "personal")),
    "risk": frozenset(("low", "medium", "high")),
    "source": frozenset(("playbook", "assistant")),
}


class Rule(msgspec.Struct, frozen=True):
    """One rule of the policy: its name, its line, and Cedar's JSON of it."""

    name: str
    line: int
    parsed: dict[str, Any]

    @property
    def permits(self) -> bool:
        return bool(self.parsed["effect"] == "permit")

    @property
    def bare(self) -> bool:
        """Whether it has no conditions, and is about any device."""
        return not self.parsed["conditions"] and self.parsed["principal"]["op"] == "All"

    def about(self, scope: str) -> list[str] | None:
        """The ids that ``action``, ``principal`` or ``resource`` is limited to; ``None`` for any."""
        part = self.parsed[scope]
        if part["op"] == "All" or "entity_type" in part:
            return None
        return [entity["id"] for entity in part.get("entities") or [part["entity"]]]

    def covers(self, scope: str, ids: list[str] | None) -> bool:
        mine = self.about(scope)
        return mine is None or (ids is not None and set(ids) <= set(mine))


def lint(text: str, release: Release, known: Known) -> list[Finding]:
    """Warnings about a policy that is valid, in a release that holds together."""
    parsed = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values()
    rules = []
    for one in parsed:
        name = one["annotations"]["id"]
        rules.append(Rule(name, line_of(rf'@id\s*\(\s*"{re.escape(name)}"', text), one))
    words = vocabulary(release)
    found: list[Finding] = []
    for number, rule in enumerate(rules):
        found += _tools(rule, text, release)
        found += _devices(rule, text, known)
        found += _conditions(rule, text, words)
        found += _pointless(rule, rules[:number], rules)
    return found + list(_not_permitted(rules, release))


def vocabulary(release: Release) -> dict[str, frozenset[str]]:
    """The words that a field of the context can have; a field that is not named can have any."""
    books = release.playbooks.values()
    words = _WORDS | {
        "playbook": frozenset(release.playbooks),
        "step": frozenset(step.id for book in books for step in book.all_steps),
    }
    if not any(book.trigger.assistant for book in books):
        lanes = {lane.id for book in books for lane in book.lanes}
        words["label"] = frozenset(lanes | {step.label for book in books for step in book.all_steps})
    return words


def used_tools(book: Playbook) -> Iterator[tuple[str, str, str]]:
    """Step, tool, and the word ``undo`` where the step names it to take its effect back."""
    for step in book.all_steps:
        for tool in [*step.tools, *([step.tool] if step.tool else []), *(["person.confirm"] if step.confirm else [])]:
            yield step.id, tool, ""
        if isinstance(step.undo, ToolUse):
            yield step.id, step.undo.tool, "undo"


# --- names --------------------------------------------------------------------------------------------------------


def _tools(rule: Rule, text: str, release: Release) -> Iterator[Finding]:
    used = {tool for book in release.playbooks.values() for _, tool, _ in used_tools(book)}
    real = used | _OWN_TOOLS
    sets = {tool.partition(".")[0] for tool in real}
    for tool in rule.about("resource") or []:
        near = nearest(tool, real)
        # Another verb of a set that is in use may well exist; a prohibition may be meant for what is not used yet.
        if tool in real or (not near and (tool.partition(".")[0] in sets or not rule.permits)):
            continue
        line = line_of(re.escape(f'Tool::"{tool}"'), text, rule.line)
        said = f"rule {rule.name} is about the tool {tool}, which no playbook uses"
        yield warn(POLICY, line, "lint.tool-unknown", said, meant(tool, used))


def _devices(rule: Rule, text: str, known: Known) -> Iterator[Finding]:
    for device in rule.about("principal") or [] if known.devices is not None else []:
        if known.devices is not None and device not in known.devices:
            line = line_of(re.escape(f'Device::"{device}"'), text, rule.line)
            said = f"rule {rule.name} is about the device {device}, which has not joined"
            yield warn(POLICY, line, "lint.device-unknown", said, meant(device, known.devices))


def _conditions(rule: Rule, text: str, words: dict[str, frozenset[str]]) -> Iterator[Finding]:
    ways = alternatives(rule.parsed["conditions"])
    if ways is None:  # too many to look at
        return
    misspelt = sorted({pair for way in ways for atom in way for pair in _unknown(atom, words)})
    for field, word in misspelt:
        line = line_of(re.escape(f'"{word}"'), text, rule.line)
        said = f"rule {rule.name} compares context.{field} with {word!r}, which it never is"
        yield warn(POLICY, line, "lint.word-unknown", said, meant(word, words[field]))
    contradictions = [contradiction(way, words) for way in ways]
    if not misspelt and all(contradictions):
        said = f"rule {rule.name} never matches: {contradictions[0] if contradictions else 'its condition is false'}"
        yield warn(POLICY, rule.line, "lint.rule-never", said, "correct the condition, or remove the rule")


def _unknown(atom: Atom, words: dict[str, frozenset[str]]) -> Iterator[tuple[str, str]]:
    for word in atom.words:
        plain = word.removeprefix(UNDO).partition("#")[0] if atom.field == "step" else word
        if atom.field in words and plain not in words[atom.field]:
            yield atom.field, word


# --- rules beside each other --------------------------------------------------------------------------------------


def _pointless(rule: Rule, before: list[Rule], rules: list[Rule]) -> Iterator[Finding]:
    body = {name: part for name, part in rule.parsed.items() if name != "annotations"}
    twin = next((one for one in before if {n: p for n, p in one.parsed.items() if n != "annotations"} == body), None)
    if twin is not None:
        said = f"rule {rule.name} says exactly what rule {twin.name} says"
        yield warn(POLICY, rule.line, "lint.rule-twice", said, "remove one of them")
    if not rule.permits:
        return
    for other in rules:
        ban = not other.permits and other.bare
        if ban and all(other.covers(scope, rule.about(scope)) for scope in ("action", "resource")):
            said = f"rule {rule.name} has no effect: {other.name} forbids all of it, whatever the circumstances"
            yield warn(POLICY, rule.line, "lint.rule-shadowed", said, f"add a condition to {other.name}, or remove one")
            return


def _not_permitted(rules: list[Rule], release: Release) -> Iterator[Finding]:
    permits = [rule for rule in rules if rule.permits and rule.covers("action", [cedar.ACTIONS[0]])]
    for name, book in release.playbooks.items():
        path = release.manifest.playbooks[name]
        for step, tool, _ in used_tools(book):
            if not any(rule.covers("resource", [tool]) for rule in permits):
                said = f"step {step} uses {tool}, which no rule permits: it would always be denied"
                yield warn(path, 0, "lint.tool-not-permitted", said, f'permit "execute" on Tool::"{tool}" in {POLICY}')
