"""The tables of replay: what devices scored, and what they did offline that would not be done alone any more."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field

from server.store.tables import Row, core


class ScoreRow(Row, table=True):
    """A device's ``replay.scored`` (``asked`` names what it answers) or ``drift.sampled`` (``asked`` is empty)."""

    __tablename__ = "replay_scores"
    __table_args__ = (Index("replay_scores_release", "release"), Index("replay_scores_drift", "asked", "device"))

    device: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    at: int = Field(sa_type=BigInteger)
    asked: str
    release: int
    sampled: int
    before: int
    now: int
    abstained: int
    unplanned: int
    golden: int = 0
    golden_wrong: int = 0
    code: str = ""


class ReconciledRow(Row, table=True):
    """An action done offline that ``release`` would have judged otherwise: entry ``seq`` of the device's log is its
    verdict. ``rules`` is a JSON list. ``state`` is ``open``, ``excused`` (a person lets it stand) or ``undone``."""

    __tablename__ = "reconciled"
    __table_args__ = (UniqueConstraint("device", "seq"), Index("reconciled_state", "state"))

    n: int | None = Field(default=None, primary_key=True)
    device: str
    seq: int = Field(sa_type=BigInteger)
    run: str
    step: str
    tool: str
    effect: str
    at: int = Field(sa_type=BigInteger)
    judged_at: int = Field(sa_type=BigInteger)
    release: int
    was: str
    now: str
    rules: str
    state: str = "open"
    by: str = ""
    settled_at: int = Field(default=0, sa_type=BigInteger)
    settled_seq: int = Field(default=-1, sa_type=BigInteger)


class ReconciledTo(Row, table=True):
    """How far a device's log was looked through."""

    __tablename__ = "reconciled_to"

    device: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)


SCORES, RECONCILED, RECONCILED_TO = core(ScoreRow), core(ReconciledRow), core(ReconciledTo)
