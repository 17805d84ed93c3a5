"""The installers are scripts, not a package: load one by its file."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The demo's parts import each other as scripts do, from their own folder.
sys.path.insert(0, str(ROOT / "installers"))
