"""Embedding at the hub: team memory found by meaning, embedders compared, and the one that devices run exported.

The hub embeds with sentence-transformers, in a worker process that starts on demand: torch takes half a gigabyte and
some seconds to load, and neither the hub's memory nor its uptime should depend on it. The package is an extra
(``hub-embeddings``), because it brings more than a gigabyte; without it the hub says what is missing, and searches team
memory by words alone. Importing this package loads nothing of it.
"""

from __future__ import annotations
