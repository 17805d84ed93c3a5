"""The registry of models: files that devices may be told to run, what is known of them, and how good they are.

``staging`` takes a file in as it comes and hashes it on the way, ``package`` takes one out of a package, ``registry``
names what was staged and keeps it where devices fetch it, ``orders`` is what an operator's commands do.
"""

from __future__ import annotations

from server.models.orders import ModelOrder, carry_out
from server.models.registry import About, Models, ModelView, naming
from server.models.staging import Staged, Staging

__all__ = ["About", "ModelOrder", "ModelView", "Models", "Staged", "Staging", "carry_out", "naming"]
