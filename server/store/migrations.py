"""How a database of an earlier schema becomes one of this schema, by hand, one step per version.

A step runs inside the transaction that opens the database, after tables that are new altogether were made: it is done
whole or not at all, and the number of the schema moves with it. Steps are never edited once they were released; SQL is
what SQLite and PostgreSQL share.
"""

from __future__ import annotations

from sqlalchemy import Connection

SCHEMA_VERSION = 4

# From this version to the next.
STEPS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE runs ADD COLUMN step VARCHAR NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN attention VARCHAR NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN parent VARCHAR NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN dry_run BOOLEAN NOT NULL DEFAULT FALSE",
        "CREATE INDEX runs_attention ON runs (attention)",
        "CREATE INDEX runs_parent ON runs (device, parent)",
        "UPDATE runs SET attention = 'doubt' WHERE status = 'doubted'",
        "UPDATE runs SET attention = 'failed' WHERE status = 'closed' AND outcome = 'failed'",
        "ALTER TABLE approvals ADD COLUMN needed INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE approvals ADD COLUMN local BOOLEAN NOT NULL DEFAULT FALSE",
        "ALTER TABLE approvals ADD COLUMN similar_s INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE approvals ADD COLUMN level INTEGER NOT NULL DEFAULT 0",
        """
        INSERT INTO answers
          (approval, device, answer, "by", corrected, place, at, similar_until, decided_seq, applied_seq)
        SELECT id, device, answer, "by", corrected, 'hub', answered_at, 0, decided_seq, applied_seq
        FROM approvals WHERE decided_seq >= 0 ORDER BY n
        """,
    ),
    2: (
        "ALTER TABLE devices ADD COLUMN person VARCHAR NOT NULL DEFAULT ''",
        "ALTER TABLE devices ADD COLUMN person_base BIGINT NOT NULL DEFAULT 0",
    ),
    3: (
        "ALTER TABLE runs ADD COLUMN thought_ms BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE runs ADD COLUMN cost_cents BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE runs ADD COLUMN mismatched BOOLEAN NOT NULL DEFAULT FALSE",
        "ALTER TABLE runs ADD COLUMN tallied BOOLEAN NOT NULL DEFAULT FALSE",
        "ALTER TABLE runs ADD COLUMN answer_tallied BOOLEAN NOT NULL DEFAULT FALSE",
        "CREATE INDEX runs_release ON runs (release, opened_at)",
        "CREATE INDEX hub_entries_type ON hub_entries (type, seq)",
        "CREATE INDEX entries_verdicts ON entries (at) WHERE type = 'verdict.given'",
        "INSERT INTO reconciled_to (device, seq) SELECT id, held FROM devices",
    ),
}


def migrate(conn: Connection, found: int) -> None:
    """Take the tables from schema ``found`` to ``SCHEMA_VERSION``."""
    for version in range(found, SCHEMA_VERSION):
        for statement in STEPS[version]:
            conn.exec_driver_sql(statement)
