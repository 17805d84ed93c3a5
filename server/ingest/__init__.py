"""What devices did: their entries come in here, judged before they are kept, and are read back as runs and stories."""

from __future__ import annotations

from server.ingest.accept import Ingest
from server.ingest.record import Record
from server.ingest.views import Counts, Day, Need, Needing, RunView, Story, StoryEntry

__all__ = ["Counts", "Day", "Ingest", "Need", "Needing", "Record", "RunView", "Story", "StoryEntry"]
