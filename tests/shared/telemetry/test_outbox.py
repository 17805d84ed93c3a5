"""What waits to be sent: ended runs, in order, and never more than the bound."""

from __future__ import annotations

from shared.telemetry import Outbox, Parcel
from tests.shared import one_step as one
from tests.shared.stories import make, opened


def test_only_the_end_of_a_run_is_sent() -> None:
    outbox = Outbox()
    for seq, facts in enumerate([opened(), one.PLAN, one.DONE]):
        outbox.take(make(facts, seq, 1, "r1"), "dev")
    assert outbox.next() == [Parcel("dev", "r1", 2)]
    assert outbox.next() == []


def test_what_could_not_be_sent_comes_first_the_next_time() -> None:
    outbox = Outbox()
    for seq in range(300):
        outbox.take(make(one.DONE, seq, 1, f"r{seq}"))
    first = outbox.next()
    assert [parcel.seq for parcel in first] == list(range(16))
    outbox.again(first)
    assert outbox.next() == first
    assert outbox.next()[0].seq == 16


def test_beyond_the_bound_the_oldest_are_lost_and_counted() -> None:
    outbox = Outbox(most=2)
    for seq in range(5):
        outbox.take(make(one.DONE, seq, 1, "r"))
    held = outbox.next()
    assert ([parcel.seq for parcel in held], outbox.lost) == ([3, 4], 3)
    outbox.take(make(one.DONE, 5, 1, "r"))
    outbox.again(held)
    assert ([parcel.seq for parcel in outbox.next()], outbox.lost) == ([4, 5], 4)
