"""One example of every entry type and every message: what the vectors pin and the spec pages show."""

from __future__ import annotations

from shared import entries as e
from shared import protocol as p
from shared.facts.rollouts import Gate, Plan, Stage
from shared.keys import Envelope
from shared.memory.feed import Change, Record, Rejected
from shared.peering import Found, Peer, Wanted
from shared.runs.fold import OF_RUNS

AT = 1_790_000_000_000_000
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
KEY = "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik="
RUN = "run_3c9f1d2a7b604e58c1d2e3f4"
CONTEXT: dict[str, int | bool | str] = {
    "confidence": 960,
    "effect": "reversible",
    "offline": False,
    "value_cents": 1250000,
}

FACTS: list[e.Facts] = [
    e.LogOpened("city/dev_1", KEY, "agent 0.1.0"),
    e.ClockStepped(3_600_000_000),
    e.DeviceJoined("dev_1", "city", KEY, SHA, {"snapshot": 1, "targets": 1, "timestamp": 1}),
    e.ReleaseInstalled(2, {"policy.cedar": SHA}),
    e.ReleaseRefused(3, "release.form"),
    e.LeaseTaken("lease_1", AT, AT + 28_800_000_000, 200, 100_000_000),
    e.SourceRead(SHA, 40, 37, 2, 1),
    e.SourceRefused(SHA, "intake.encoding"),
    e.EventReceived("payment", SHA),
    e.RunOpenedV1("permit-triage", 1, SHA, 2, f"csv:{SHA}:12", SHA, True),
    e.RunOpened("mailing", 3, SHA, 4, f"run:{RUN}:mail#2:0", SHA, False, True, RUN, "mail#2", "otto"),
    e.RunOrdered("not-happened", "ord_1", "mail#2", "mara", "hub"),
    e.StepEntered("rest", "time", AT + 3_600_000_000, 0, ""),
    e.StepEnded("rest", "time"),
    e.StepSkipped("remind"),
    e.StepRehearsed("triage", SHA, "ask"),
    e.StepFailed("payment", "step.timeout"),
    e.ContextRecalled("triage", [e.ItemRef("mem_1", SHA)], 1_800),
    e.PlanMade("triage", "rules", "", "", "express", 960, ["roof"], 240, 0, 0, 0, 0, "register.decide", SHA, ""),
    e.VerdictGiven("triage", SHA, "allow", ["alone-if-sure"], 2, "register.decide", CONTEXT),
    e.ApprovalAskedV1("triage", "app_1", SHA, ["clerk"], AT + 172_800_000_000),
    e.ApprovalAsked("letter", "app_2", SHA, ["clerk", "mayor"], AT + 172_800_000_000, 2, False, 0),
    e.ApprovalEscalated("letter", "app_2", 1, ["mayor"]),
    e.ApprovalAnsweredV1("triage", "app_1", SHA, "approve", "", "mara"),
    e.ApprovalAnswered("stamp", "app_3", SHA, "approve", "", "otto", "local", AT + 3_600_000_000),
    e.ApprovalCovered("stamp", "app_4", SHA, "app_3"),
    e.ApprovalVoided("triage", "app_1", "approval.expired"),
    e.IntentRecorded("triage", SHA, "register.decide", SHA, "app_1"),
    e.IntentDoubted("triage", SHA),
    e.ResultRecorded("triage", SHA, "done", "", "sent", 1, 5_200),
    e.EffectObserved("triage", SHA, True),
    e.UndoBegun("failed", "tool.refused"),
    e.UndoLeft("letter", "undo.manual"),
    e.RunClosed("done", ""),
    e.HubPinned("city/log", 18, SHA),
    e.UserAdded("mara", ["admin", "clerk"]),
    e.TokenIssued("tok_1", AT + 3_600_000_000),
    e.DeviceEnrolled("dev_1", "tok_1", KEY, KEY),
    e.DeviceRevoked("dev_1", "mara", "device.lost"),
    e.ReleasePublishedV1(2, "mara", {"policy.cedar": SHA}),
    e.ReleasePublished(3, "mara", {"policy.cedar": SHA}, True),
    e.ApprovalDecidedV1("app_1", "dev_1", SHA, "approve", "", "mara"),
    e.ApprovalDecided("app_3", "dev_1", SHA, "approve", "", "otto", AT + 3_600_000_000),
    e.OrderGiven("retry", "ord_2", "dev_1", RUN, "", "mara"),
    e.LeaseIssued("lease_1", "dev_1", AT + 28_800_000_000, 200, 100_000_000),
    e.BatchRefused("dev_1", "log.fork", 40, 40, 52),
    e.DraftSaved(7, "mara", "restore", 4, SHA),
    e.DraftSigned(7, "otto", SHA),
    e.AccessIssued("acc_1", "mara", ["workspace:read", "workspace:write"], AT + 3_600_000_000, "mara"),
    e.AccessRevoked("acc_1", "otto"),
    e.MemoryGranted("team/permits", "user:mara", "writer", "otto"),
    e.MemoryTombstoned("tmb_1", "item", "team/permits", "mem_1", "", "", 1, "mara", "asked"),
    e.MemoryHeld("hld_1", "team/permits", "mem_1", "otto", "court"),
    e.MemoryUnheld("hld_1", "otto"),
    e.MemoryErased(["tmb_1"], 1),
    e.MemoryRefused("team/permits", "mem_1", SHA, "memory.hostile.size"),
    e.SwitchPressed("sw_1", "tool", "mail.send", "mara", "wrong"),
    e.SwitchReleased("sw_1", "mara"),
    e.SwitchesTaken(7, AT, [e.Switch("sw_1", "tool", "mail.send", "mara", AT, "wrong")]),
    e.ModelAdded("letters-2", "2.1", "embedder", "onnx", SHA, 23_308_617, "Apache-2.0", SHA, "mara"),
    e.ModelScored("letters-2", SHA, "queries", {"ndcg": 947, "recall": 981}, 240, "mara"),
    e.ModelRemoved("letters-1", SHA, "mara"),
    e.ModelTaken("embedder", "letters-1", SHA, 2),
    e.ModelRefused("embedder", "letters-2", SHA, 3, "model.smoke", SHA),
    e.RolloutStarted(
        Plan(
            rollout="rol_1",
            release=7,
            control=6,
            salt="5f2d",
            stages=[Stage(10, 14_400, 50), Stage(1000, 86_400, 0)],
            gates=[Gate("failures", 20, 100), Gate("latency", 100, 300, 4_500)],
            alpha_permille=50,
            beta_permille=10,
            settle_s=900,
        ),
        "mara",
    ),
    e.RolloutAdvanced("rol_1", 1, "person", "mara"),
    e.RolloutPaused("rol_1", "mara"),
    e.RolloutResumed("rol_1", "mara"),
    e.RolloutHalted("rol_1", "rollout.worse", "failures", 1_042, "hub"),
    e.RolloutRolledBack("rol_1", 6, "hub"),
    e.RolloutFinished("rol_1", "hub"),
    e.DevicePinned("dev_1", 6, "mara"),
    e.DeviceExcluded("dev_1", True, "mara"),
    e.ReplayAsked("rpl_1", 3, 50, 2, "mara"),
    e.ReplayScored(3, 50, 44, 46, 2, 1, "rpl_1", 9, 0, ""),
    e.DriftSampled(2, 20, 19, 15, 1, 0),
    e.ActionExcused("dev_1", 12, RUN, 4, "deny", "mara"),
    e.OfferSigned("e717c1d6d6bdf3d7", "release", 4, "a3c761e56d55f45e", "mara"),
    e.RootChanged(2, "mara", {"policy": "2 of 2b61f0ec7a2b2352 2d3bb9ef976d4079 a3c761e56d55f45e"}),
]

BODIES: dict[type[e.Facts], dict[str, object]] = {
    e.RunOpenedV1: {
        "shared": {
            "inputs": {"application_id": "PA-2026-0141", "value": 1250000},
            "subject": "PA-2026-0141",
            "source": "june.csv row 12",
        },
        "private": {"inputs": {"phone": "555-0100"}},
    },
}


def example(kind: type[e.Facts]) -> e.Facts:
    """The example of exactly this type and version."""
    return next(facts for facts in FACTS if type(facts) is kind)


def salt(size: int) -> bytes:
    return bytes(range(size))


def written(facts: e.Facts, seq: int = 7) -> e.Written:
    """The entry of an example, with fixed salts."""
    run = RUN if isinstance(facts, OF_RUNS) else ""
    return e.write(e.Draft(facts, run, BODIES.get(type(facts), {})), seq, AT, salt)


NONCE = "00" * 32
NOTE = "city/dev_1\n8\nn4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=\n\n— city/dev_1 AAAA\n"
ENVELOPE = Envelope("lease", '{"lease":"lease_1"}', "AAAA")

MESSAGES: list[p.Message] = [
    p.Challenge([1], "city", NONCE, AT),
    p.Hello(1, "dev_1", NONCE, 8, SHA, 2, "agent 0.1.0", "00" * 64),
    p.Welcome(8, 3, "00" * 64),
    p.Batch(7, [p.Sent('{"at":1}', e.Body("00" * 32, '{"x":1}')), p.Sent('{"at":2}')], NOTE),
    p.Pull(3, 18),
    p.Status(2, 8, 3, 1, AT),
    p.Accepted(8, NOTE),
    p.Notice(["approvals", "lease"]),
    p.Pulled(4, False, [ENVELOPE], NOTE, 18, ["n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="]),
    p.Refusal(
        "Conflict", "log.gap", "the batch begins at entry 9, but only 8 are held", "send again from entry 8", False, 8
    ),
]
MEM = "mem_a05155492a8f86cf159d8485"
TMB = "tmb_000102030405060708090a0b"
MESSAGES += [
    p.Remember("team/permits", [Change(MEM, "hW9Kg5LqWkgBAAA=")]),
    p.Remembered("team/permits", [SHA], [Rejected(MEM, "0" * 64, "memory.erased")]),
    p.Recall({"person": 0, "team/permits": 41}),
    p.Recalled(
        {"person": "steward", "team/permits": "writer"},
        "team/permits",
        [
            Record(42, MEM, "hW9Kg5LqWkgBAAA="),
            Record(43, MEM, tombstone=Envelope("tombstone", f'{{"id":"{TMB}"}}', "AAAA")),
        ],
        43,
        False,
    ),
    p.Forget(TMB, "item", "team/permits", MEM, "", "", "", "asked"),
    p.Forgotten(TMB),
    p.Urgent(Envelope("stop", '{"version":7}', "AAAA")),
]
JOIN = p.Join(1, "SECRET", "front desk", KEY, KEY, "agent 0.1.0", "00" * 64, "00" * 64)
WANTED = Wanted("dev_1", SHA, AT, "00" * 64)
FOUND = Found([Peer("dev_2", Envelope("ticket", '{"device":"dev_2"}', "AAAA"))])
JOINED = p.Joined("dev_1", "city", KEY, "city/dev_1", "{}", {"timestamp": 1, "snapshot": 1, "targets": 1})
