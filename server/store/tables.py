"""The tables. Times are microseconds since 1970 UTC, money is cents.

What a person wrote or a device reported in words stands in the bodies alone, and is read from there: rows derived
from the log keep sequence numbers, not copies, so that erasing a body erases it everywhere.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, MetaData, Table, UniqueConstraint, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel


class Row(SQLModel, registry=registry()):
    """Base of our tables, with a registry of its own."""


METADATA: MetaData = Row.metadata


class Meta(Row, table=True):
    """Facts about the database itself: ``schema``."""

    __tablename__ = "meta"

    name: str = Field(primary_key=True)
    value: str


# --- the hub's own log --------------------------------------------------------------------------------------------


class HubEntry(Row, table=True):
    """An entry of the hub's log: its exact bytes, and columns to find it by."""

    __tablename__ = "hub_entries"
    __table_args__ = (Index("hub_entries_type", "type", "seq"),)

    seq: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    at: int = Field(sa_type=BigInteger)
    type: str
    data: bytes


class HubBody(Row, table=True):
    """An erasable body beside an entry of the hub's log. ``data`` is canonical JSON."""

    __tablename__ = "hub_bodies"

    seq: int = Field(primary_key=True, sa_type=BigInteger)
    name: str = Field(primary_key=True)
    salt: str
    data: str


class HubNode(Row, table=True):
    """The hash of a perfect subtree of the hub's log, for proofs."""

    __tablename__ = "hub_nodes"

    level: int = Field(primary_key=True)
    idx: int = Field(primary_key=True, sa_type=BigInteger)
    hash: bytes


class HubCheckpoint(Row, table=True):
    """One signed note per commit of the hub's log."""

    __tablename__ = "hub_checkpoints"

    size: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    note: str


# --- people -------------------------------------------------------------------------------------------------------


class UserRow(Row, table=True):
    """A person who may sign in. ``password`` is an argon2 hash, ``roles`` a JSON list."""

    __tablename__ = "users"

    name: str = Field(primary_key=True)
    password: str
    roles: str
    added_at: int = Field(sa_type=BigInteger)


class SessionRow(Row, table=True):
    """A signed-in browser. Only the hash of its cookie is kept."""

    __tablename__ = "sessions"

    token_sha256: str = Field(primary_key=True)
    user: str = Field(index=True)
    csrf: str
    created_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)


# --- devices ------------------------------------------------------------------------------------------------------


class TokenRow(Row, table=True):
    """A one-time enrolment token. Only the hash of its secret is kept."""

    __tablename__ = "tokens"

    id: str = Field(primary_key=True)
    secret_sha256: str = Field(unique=True)
    by: str
    issued_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    used_at: int | None = Field(default=None, sa_type=BigInteger)
    device: str = ""


class DeviceRow(Row, table=True):
    """An enrolled device: its pinned keys, what the hub holds of its log, and how it was last seen.

    ``held`` entries are countersigned; ``peaks`` are the roots that let the hub extend that tree; ``newest_at`` is the
    newest entry's time; ``note`` the countersigned checkpoint. ``log_size`` is what the device says it has.
    ``person`` is whose device it is, empty for nobody's; ``person_base`` is added to the numbers of that person's feed,
    because the device counted in a feed of its own before."""

    __tablename__ = "devices"

    id: str = Field(primary_key=True)
    name: str
    state: str
    origin: str
    person: str = ""
    person_base: int = Field(default=0, sa_type=BigInteger)
    log_key: str
    link_key: str
    software: str
    enrolled_at: int = Field(sa_type=BigInteger)
    revoked_at: int = Field(default=0, sa_type=BigInteger)
    revocation: str = ""

    held: int = Field(default=0, sa_type=BigInteger)
    peaks: bytes = b""
    newest_at: int = Field(default=0, sa_type=BigInteger)
    note: str = ""
    cosigned_at: int = Field(default=0, sa_type=BigInteger)

    last_seen_at: int = Field(default=0, sa_type=BigInteger)
    release: int = 0
    log_size: int = Field(default=0, sa_type=BigInteger)
    open_runs: int = 0
    waiting: int = 0
    acknowledged: int = Field(default=0, sa_type=BigInteger)

    lease: str = ""
    lease_issued_at: int = Field(default=0, sa_type=BigInteger)
    lease_expires_at: int = Field(default=0, sa_type=BigInteger)

    problem_code: str = ""
    problem_message: str = ""
    problem_advice: str = ""
    problem_at: int = Field(default=0, sa_type=BigInteger)


class OutboxRow(Row, table=True):
    """A signed message for a device. ``n`` is the cursor: a device asks for what lies beyond the last one it kept."""

    __tablename__ = "outbox"

    n: int | None = Field(default=None, primary_key=True)
    device: str = Field(index=True)
    at: int = Field(sa_type=BigInteger)
    envelope: str


# --- the devices' logs --------------------------------------------------------------------------------------------


VERDICTS = "type = 'verdict.given'"  # what replay reads of all devices, by time


class EntryRow(Row, table=True):
    """An entry of a device's log: its exact bytes, and columns to find it by."""

    __tablename__ = "entries"
    __table_args__ = (
        Index("entries_run", "device", "run", "seq"),
        Index("entries_verdicts", "at", sqlite_where=text(VERDICTS), postgresql_where=text(VERDICTS)),
    )

    device: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    at: int = Field(sa_type=BigInteger)
    type: str
    run: str
    data: bytes


class BodyRow(Row, table=True):
    """The ``shared`` body of an entry. The row goes when the body is erased; the entry stays."""

    __tablename__ = "bodies"

    device: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    salt: str
    data: str


class CheckpointRow(Row, table=True):
    """A device's checkpoint with the hub's cosignature, one per accepted batch."""

    __tablename__ = "checkpoints"

    device: str = Field(primary_key=True)
    size: int = Field(primary_key=True, sa_type=BigInteger)
    note: str
    cosigned_at: int = Field(sa_type=BigInteger)


class RunRow(Row, table=True):
    """A run as folded so far. ``n`` orders runs by when the hub first heard of them; ``seq`` and ``plan_seq`` are the
    entries whose bodies hold the inputs and the recommendation. ``step`` is the one a list speaks of; ``attention`` is
    ``doubt``, ``operator`` or ``failed`` where only a person can help. ``thought_ms`` is how long its planners took and
    ``cost_cents`` what they cost; ``mismatched`` says that an effect was not what its action said. ``tallied`` and
    ``answer_tallied`` say that a rollout has counted the run, and the first answer about it."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("device", "id"),
        Index("runs_release", "release", "opened_at"),
        Index("runs_status", "status"),
        Index("runs_id", "id"),
        Index("runs_attention", "attention"),
        Index("runs_parent", "device", "parent"),
    )

    n: int | None = Field(default=None, primary_key=True)
    device: str
    id: str
    seq: int = Field(sa_type=BigInteger)
    playbook: str
    release: int
    opened_at: int = Field(sa_type=BigInteger)
    status: str
    label: str = ""
    confidence: int = 0
    planner: str = ""
    outcome: str = ""
    code: str = ""
    approval: str = ""
    verdict: str = ""
    plan_seq: int = Field(default=-1, sa_type=BigInteger)
    closed_at: int = Field(default=0, sa_type=BigInteger)
    step: str = ""
    attention: str = ""
    parent: str = ""
    dry_run: bool = False
    thought_ms: int = Field(default=0, sa_type=BigInteger)
    cost_cents: int = Field(default=0, sa_type=BigInteger)
    mismatched: bool = False
    tallied: bool = False
    answer_tallied: bool = False


class ApprovalRow(Row, table=True):
    """A question to people. ``state`` is waiting, answered or void; unanswered, it is expired once its time is past.
    ``needed`` different people must say yes; each answer is a row of ``answers``, and the one that settled the question
    stands here too. ``decided_seq`` is the entry of the hub's log whose body holds that signed answer, -1 where it was
    given at the device; ``applied_seq`` the device's entry. ``level`` counts escalations."""

    __tablename__ = "approvals"
    __table_args__ = (Index("approvals_state", "state"), Index("approvals_run", "device", "run"))

    n: int | None = Field(default=None, primary_key=True)
    device: str
    id: str = Field(unique=True)
    run: str
    step: str
    action: str
    roles: str
    asked_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    seq: int = Field(sa_type=BigInteger)
    opened_seq: int = Field(sa_type=BigInteger)
    plan_seq: int = Field(sa_type=BigInteger)
    verdict_seq: int = Field(sa_type=BigInteger)
    state: str = "waiting"
    void_code: str = ""
    answer: str = ""
    by: str = ""
    corrected: str = ""
    answered_at: int = Field(default=0, sa_type=BigInteger)
    decided_seq: int = Field(default=-1, sa_type=BigInteger)
    applied_seq: int = Field(default=-1, sa_type=BigInteger)
    needed: int = 1
    local: bool = False
    similar_s: int = 0
    level: int = 0


class AnswerRow(Row, table=True):
    """One person's answer to a question, given at the ``hub`` or at the device (``local``). Until ``similar_until`` it
    covers actions like the one asked about."""

    __tablename__ = "answers"

    n: int | None = Field(default=None, primary_key=True)
    approval: str = Field(index=True)
    device: str
    answer: str
    by: str
    corrected: str
    place: str
    at: int = Field(sa_type=BigInteger)
    similar_until: int = Field(default=0, sa_type=BigInteger)
    decided_seq: int = Field(default=-1, sa_type=BigInteger)
    applied_seq: int = Field(default=-1, sa_type=BigInteger)


class SwitchRow(Row, table=True):
    """A stop that a person pressed, and who let it go. ``pressed_seq`` and ``released_seq`` are places in the hub's
    log; -1 while it is in force."""

    __tablename__ = "switches"

    n: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    kind: str
    name: str
    by: str
    at: int = Field(sa_type=BigInteger)
    reason_code: str
    pressed_seq: int = Field(sa_type=BigInteger)
    released_by: str = ""
    released_at: int = Field(default=0, sa_type=BigInteger)
    released_seq: int = Field(default=-1, sa_type=BigInteger)


class OrderRow(Row, table=True):
    """A person's order about a run, given here. ``given_seq`` is the entry of the hub's log, ``outbox`` the message's
    place in the outbox, ``applied_seq`` the device's entry once the run obeyed."""

    __tablename__ = "orders"
    __table_args__ = (Index("orders_run", "device", "run"),)

    n: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    device: str
    run: str
    step: str
    kind: str
    by: str
    at: int = Field(sa_type=BigInteger)
    given_seq: int = Field(sa_type=BigInteger)
    outbox: int = Field(sa_type=BigInteger)
    applied_seq: int = Field(default=-1, sa_type=BigInteger)


# --- rollouts -----------------------------------------------------------------------------------------------------


class RolloutEvidenceRow(Row, table=True):
    """What one stage of a rollout has counted so far: ``outcomes`` is JSON of ``shared.rollout.Outcomes``. The rest of
    a rollout is what the hub's log says of it."""

    __tablename__ = "rollout_evidence"

    rollout: str = Field(primary_key=True)
    stage: int = Field(primary_key=True)
    outcomes: str
    looked_at: int = Field(sa_type=BigInteger)


# --- the same tables for SQLAlchemy Core, which bulk writes and joins use -----------------------------------------


def core(kind: type[Row]) -> Table:
    table: Table = kind.__table__  # type: ignore[attr-defined]  # set by SQLModel's metaclass
    return table


META = core(Meta)
HUB_ENTRIES, HUB_BODIES = core(HubEntry), core(HubBody)
HUB_NODES, HUB_CHECKPOINTS = core(HubNode), core(HubCheckpoint)
USERS, SESSIONS, TOKENS = core(UserRow), core(SessionRow), core(TokenRow)
DEVICES, OUTBOX = core(DeviceRow), core(OutboxRow)
ENTRIES, BODIES, CHECKPOINTS = core(EntryRow), core(BodyRow), core(CheckpointRow)
RUNS, APPROVALS, ANSWERS, ORDERS = core(RunRow), core(ApprovalRow), core(AnswerRow), core(OrderRow)
ROLLOUT_EVIDENCE = core(RolloutEvidenceRow)
SWITCHES = core(SwitchRow)
