"""Questions to people, and their answers.

A question is bound to the digest of one exact action and expires. So many different people must approve as its policy
says; one denial ends it. Each answer is signed by the hub's key, written to the hub's log, put into the device's outbox
and counted in one transaction; only then is anybody told. What is asked about (inputs, reason, sources) is read from
the bodies the device sent, never copied.
"""

from __future__ import annotations

from server.approvals.deciding import Approvals
from server.approvals.views import AnswerView, ApprovalView, Library

__all__ = ["AnswerView", "ApprovalView", "Approvals", "Library"]
