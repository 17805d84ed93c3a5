"""What devices and people write of releases judged on history: numbers and names, never what a run was about."""

from __future__ import annotations

from shared.facts.base import Facts


class Scored(Facts, frozen=True):
    """Base: some of a device's own runs, planned once more. Of ``sampled`` runs that people had answered, ``now``
    recommend what people accepted, ``before`` did so when they were planned first; ``abstained`` leave it to a person,
    ``unplanned`` could not be planned again (erased, or the playbook is gone)."""

    release: int
    sampled: int
    before: int
    now: int
    abstained: int
    unplanned: int


class ReplayScored(Scored, frozen=True):
    """A device was asked to try a release on its own runs, under ``id``. Of ``golden`` cases ``golden_wrong`` failed
    with the device's models and memory. ``code`` says why it could not be tried, empty where it could."""

    id: str
    golden: int
    golden_wrong: int
    code: str


class DriftSampled(Scored, frozen=True):
    """The same of the release in force, by the device itself from time to time: does it still plan as people decide?"""


class ReplayAsked(Facts, frozen=True):
    """The hub's: devices are asked to try ``release`` on at most ``sample`` of their own runs."""

    id: str
    release: int
    sample: int
    devices: int
    by: str


class ActionExcused(Facts, frozen=True):
    """The hub's: what entry ``seq`` of a device's log did offline would not be done alone under ``release``, and a
    person lets it stand. Body: the reason."""

    device: str
    seq: int
    run: str
    release: int
    verdict: str
    by: str
