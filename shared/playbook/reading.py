"""From YAML to a playbook, strictly: every refusal names file, line and field."""

from __future__ import annotations

from shared import plainyaml
from shared.errors import BadInput
from shared.playbook.checks import check
from shared.playbook.parts import Playbook


def load(text: str, where: str, *, new: bool = False) -> Playbook:
    """Parse and check a playbook. ``new`` is one that is about to be published; see ``Release``. Raises
    ``BadInput('playbook.yaml' | 'playbook.field' | 'expression.*')`` with file, line and field."""
    source = plainyaml.read(text, where, _broken)

    def bad(path: list[str], said: str) -> BadInput:
        field = ".".join(path) or "the file"
        return BadInput(
            "playbook.field", f"{field}: {said}", advice="see the playbook reference", where=source.place(path)
        )

    playbook = plainyaml.fit(source, Playbook, bad, _broken)
    check(playbook, bad, source.place, new=new)
    return playbook


def _broken(said: str, place: str) -> BadInput:
    advice = "flatten it" if said == plainyaml.TOO_DEEP else "correct the YAML"
    return BadInput("playbook.yaml", said, advice=advice, where=place)
