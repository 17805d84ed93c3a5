"""What ``outrider agent status`` and ``runs`` show: folds over the log, read from outside the running agent."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edge_agent.config import Home
from edge_agent.identity import load_identity
from edge_agent.journal import LogReader
from edge_agent.lock import is_held
from shared import entries as e
from shared.runs import Device, Run

_STALE_S = 10.0


@dataclass
class Tally:
    """Counts over a whole log. Latencies are of planning, in microseconds."""

    device: Device = field(default_factory=lambda: Device(closed={}))
    runs: dict[str, Run] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    latencies: list[int] = field(default_factory=list)
    planners: Counter[str] = field(default_factory=Counter)
    without_model: Counter[str] = field(default_factory=Counter)
    asked: set[str] = field(default_factory=set)
    answered: Counter[str] = field(default_factory=Counter)

    def take(self, entry: e.Entry) -> None:
        run = self.device.fold(entry)
        if run is not None:
            if run.id not in self.runs:
                self.order.append(run.id)
            self.runs[run.id] = run
        match entry.facts:
            case e.PlanMade() as plan:
                self.latencies.append(plan.latency_us)
                self.planners[plan.planner] += 1
                if not plan.model:
                    self.without_model[plan.planner] += 1
            case e.ApprovalAskedV1():
                self.asked.add(entry.run)
            case e.ApprovalAnsweredV1(answer=answer):
                self.answered[answer] += 1


def tally(entries: Iterable[e.Entry]) -> Tally:
    found = Tally()
    for entry in entries:
        found.take(entry)
    return found


def percentile(values: list[int], permille: int) -> int:
    """The value below which ``permille`` of a list lies, by nearest rank; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * permille // 1000)] if ordered else 0


def decided_alone(run: Run) -> bool:
    return run.closed is not None and run.closed.outcome == "done" and not run.approvals_used


def status(home: Home) -> dict[str, Any]:
    """The whole picture, JSON-plain. ``running`` and all below it come from the live process, the rest from the log."""
    identity = load_identity(home)
    log = LogReader(home.log)
    try:
        found = tally(log.entries())
        size, synced = log.size, log.cosigned_size()
        sources = _sources(log)
        last = log.newest()
    finally:
        log.close()
    lease, release, live = found.device.lease, found.device.release, _live(home)
    found.device.synced(synced)
    closed = Counter((found.device.closed or {}).values())
    open_runs = Counter(run.status for run in found.device.runs.values())
    return {
        "device": identity.device,
        "name": identity.name,
        "hub": identity.hub,
        "hub_url": identity.hub_url,
        "running": live is not None,
        "linked": bool(live and live["linked"]),
        "idle": bool(live and live["idle"]),
        "revoked": found.device.revoked,
        "stops": msgspec.to_builtins(found.device.stops.switches) if found.device.stops else [],
        "release": release.release if release else 0,
        "log": {"size": size, "bytes": _bytes(home), "root": last[1].decode().split("\n")[2] if last else ""},
        "synced": synced,
        "cosigned": synced == size,
        "lease": {
            "expires_at": lease.expires_at,
            "actions_left": max(0, lease.actions - found.device.actions_since_sync),
            "value_left_cents": max(0, lease.value_cents - found.device.value_since_sync),
        }
        if lease
        else None,
        "runs": {
            "open": sum(open_runs.values()),
            "waiting": open_runs["waiting"],
            "held": open_runs["held"],
            "in_doubt": open_runs["doubted"],
            "left": open_runs["left"],
            "paused": open_runs["paused"],
            "failed": len(found.device.failed),
            "closed": sum(closed.values()),
        },
        "outcomes": dict(closed),
        "lanes": dict(Counter(_lane(run) for run in found.runs.values() if run.shown.plan)),
        "decided_alone": sum(decided_alone(run) for run in found.runs.values()),
        "asked": len(found.asked),
        "answered": sum(found.answered.values()),
        "denied": closed["denied"] + closed["declined"],
        "planner": {"p50_us": percentile(found.latencies, 500), "p95_us": percentile(found.latencies, 950)},
        "planners": dict(found.planners),
        "model_calls": sum(found.planners.values()) - sum(found.without_model.values()),
        "model_calls_avoided": sum(found.without_model.values()),
        "model_calls_avoided_by": dict(found.without_model),
        "sources": sources,
        "problems": live["problems"] if live else [],
        "model": live["model"] if live else None,
        "peering": live.get("peering") if live else None,
        "rss_bytes": live["rss_bytes"] if live else 0,
    }


def _lane(run: Run) -> str:
    """The lane in force: the planner's, or the one a person put in its place."""
    step = run.shown
    judged = step.verdict.context.get("label") if step.verdict else None
    return str(judged) if judged else (step.plan.label if step.plan else "")


def _sources(log: LogReader) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for entry in log.of_types("source.read", "source.refused"):
        body = log.body(entry.seq) or {}
        match entry.facts:
            case e.SourceRead() as f:
                row = {"rows": f.rows, "opened": f.opened, "duplicates": f.duplicates, "refused": f.refused, "code": ""}
            case e.SourceRefused() as f:
                row = {"rows": 0, "opened": 0, "duplicates": 0, "refused": 0, "code": f.code}
            case _:
                continue
        rows.append({"file": body.get("file", ""), **row, "errors": body.get("errors", [])})
    return rows


def _live(home: Home) -> dict[str, Any] | None:
    """What the running agent last said of itself, if one runs."""
    if not is_held(home.lock):
        return None
    try:
        live = json.loads(home.live.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(live, dict) or not {"at", "linked", "idle", "problems", "model", "rss_bytes"} <= set(live):
        return None
    return live if time.time() - live["at"] / 1e6 < _STALE_S else None


def _bytes(home: Home) -> int:
    return sum(path.stat().st_size for path in home.root.glob("log.sqlite3*"))


def runs(home: Home, *, waiting: bool = False) -> list[dict[str, Any]]:
    """Every run, oldest first, or only those that wait for a person; private inputs stay out."""
    log = LogReader(home.log)
    try:
        found = tally(log.entries())
        rows = [found.runs[name] for name in found.order]
        return [_row(log, run) for run in rows if not waiting or run.status in ("waiting", "doubted")]
    finally:
        log.close()


def _row(log: LogReader, run: Run) -> dict[str, Any]:
    event = log.body(run.seq) or {}
    step = run.shown
    plan = log.body(step.plan_seq) if step.plan_seq >= 0 else None
    return {
        "run": run.id,
        "subject": event.get("subject", ""),
        "status": run.status,
        "outcome": run.closed.outcome if run.closed else "",
        "code": run.closed.code if run.closed else "",
        "lane": _lane(run),
        "step": step.id,
        "planner": step.plan.planner if step.plan else "",
        "confidence": step.plan.confidence if step.plan else 0,
        "verdict": step.verdict.verdict if step.verdict else "",
        "rules": step.verdict.rules if step.verdict else [],
        "reason": (plan or {}).get("reason", ""),
        "approval": step.approval.approval if step.approval else "",
        "expires_at": step.approval.expires_at if step.approval else 0,
        "by": step.answer.by if step.answer else "",
        "opened_at": run.at,
        "closed_at": run.closed_at,
    }
