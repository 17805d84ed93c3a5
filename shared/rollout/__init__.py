"""Staged rollouts: who runs which release, what is counted, and when it goes on. No clock, no I/O, no randomness.

``plan`` says how; ``cohort`` who comes first; ``fold`` keeps the state from the hub's log; ``assign`` tells each device
its release; ``outcomes`` and ``evidence`` weigh how runs went; ``judge`` decides.

Which runs count, so that the two arms can be compared:
- only runs that were opened since the stage began, under the candidate or under the control, on a device that takes
  part (not pinned, not excluded);
- each run once, when it is ``settle_s`` old and the hub has heard of it, by what is known of it then. A run that fails
  is not counted before one that takes its time: a device that has just changed would look worse than it is;
- questions (``answered``, ``overridden``) once, when the run's first one is answered;
- of one device, the first ``MOST_RUNS`` of each arm in a stage, by when they were known: later ones are not counted.
"""

from shared.rollout.assign import assigned, in_candidate
from shared.rollout.cohort import PARTS, bucket, part, takes_part
from shared.rollout.fold import (
    FINISHED,
    HALTED,
    NONE,
    OF_ROLLOUTS,
    PAUSED,
    ROLLED_BACK,
    RUNNING,
    Rollout,
    fold,
)
from shared.rollout.judge import Advance, Finish, Halt, Reading, Verdict, Wait, judge, readings, told_apart
from shared.rollout.outcomes import MOST_RUNS, Outcomes, Tally
from shared.rollout.plan import Gate, Metric, Plan, Stage, checked, default_plan, usual_bound

__all__ = [
    "FINISHED", "HALTED", "MOST_RUNS", "NONE", "OF_ROLLOUTS", "PARTS", "PAUSED", "ROLLED_BACK", "RUNNING",
    "Advance", "Finish", "Gate", "Halt", "Metric", "Outcomes", "Plan", "Reading", "Rollout", "Stage", "Tally",
    "Verdict", "Wait", "assigned", "bucket", "checked", "default_plan", "fold", "in_candidate", "judge", "part",
    "readings", "takes_part", "told_apart", "usual_bound",
]  # fmt: skip
