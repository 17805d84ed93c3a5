"""Jinja2 for the console: everything is escaped, unknown names are errors, and values have one way to be written."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from server.console import assets, formats
from server.console.services import Services
from shared.memory.forms import typed_fields, typed_tags
from shared.runs.words import status_of

TEMPLATES = Path(__file__).parent / "templates"

PLANNERS = {
    "rules": "by rules",
    "memory": "by past decisions",
    "model": "by the on-device model",
    "playbook": "by the playbook",
    "assistant": "by an assistant",
    "undo": "to take a step back",
}


def by_planner(name: str) -> str:
    """Who planned, in words."""
    return PLANNERS.get(name, f"by {name}" if name else "")


@cache
def icons() -> frozenset[str]:
    """The names of the pictures there are."""
    return frozenset(re.findall(r'<symbol id="([a-z-]+)"', assets.assets()["icons.svg"].data.decode()))


def icon(name: str, css: str = "") -> Markup:
    """A picture beside words, so hidden from screen readers. A name that is not there is a mistake: ``KeyError``."""
    if name not in icons():
        raise KeyError(name)
    return Markup('<svg class="icon {}" aria-hidden="true"><use href="{}#{}"></use></svg>').format(
        css, assets.url("icons.svg"), name
    )


_COVERS = (900, 3_600, 4 * 3_600, 8 * 3_600, 86_400)


def covers(most_s: int) -> list[int]:
    """For how long, in seconds, a yes may be said to cover others like it, where ``most_s`` is the policy's bound."""
    return [*(span for span in _COVERS if span < most_s), most_s] if most_s > 0 else []


def environment(services: Services) -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        cents=formats.cents,
        clock_time=formats.clock_time,
        context_name=formats.context_name,
        count=formats.count,
        day=formats.day,
        exact=formats.exact,
        iso=formats.iso,
        sentence=formats.prose,
        share=formats.share,
        short=formats.short,
        span=formats.span,
        step=formats.step,
        took=formats.took,
        typed_fields=typed_fields,
        typed_tags=typed_tags,
        value=formats.value,
        when=lambda at: formats.when(at, services.clock()),
        words=formats.words,
    )
    env.globals.update(
        asset=assets.url,
        by_planner=by_planner,
        context_value=formats.context_value,
        covers=covers,
        hub=services.hub,
        icon=icon,
        now=services.clock,
        fleet_stop=lambda: services.switches.covering("fleet", ""),
        status_of=status_of,
    )
    return env
