"""The device's log on disk: one writer, group commit, a signed checkpoint with every commit.

Format: ``shared/spec/log.md``. Only the ``Journal`` writes, in a thread of its own. A ``LogReader`` has a connection of
its own, in any process.
"""

from __future__ import annotations

from edge_agent.journal.files import read_head
from edge_agent.journal.jobs import Listener
from edge_agent.journal.reader import LogReader
from edge_agent.journal.writer import Journal

__all__ = ["Journal", "Listener", "LogReader", "read_head"]
