"""What the hub keeps on disk: tables, transactions, keys, and its own log.

Everything else in the hub is judgement over what stands here. A log entry and the rows derived from it are committed
together or not at all, so no table can drift from the log.
"""

from __future__ import annotations

from server.store.database import Store
from server.store.home import Identity, load_identity, make_home, take_lock
from server.store.hublog import HubLog

__all__ = ["HubLog", "Identity", "Store", "load_identity", "make_home", "take_lock"]
