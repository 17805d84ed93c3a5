"""The hub's log and its tables move together, or not at all; one process writes."""

from __future__ import annotations

import itertools
import secrets
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select, text

from server.store import HubLog, Store, load_identity, make_home, take_lock
from server.store.tables import HUB_ENTRIES, META
from shared.codec import unb64
from shared.entries import Body, ClockStepped, Draft, LogOpened, UserAdded, Written, check_body, read
from shared.errors import BadInput, Conflict, Tampered, Unavailable
from shared.tlog import Frontier, leaf_hash, open_checkpoint, verify_consistency


def added(name: str) -> Draft:
    return Draft(UserAdded(user=name, roles=["clerk"]))


def roots(hublog: HubLog) -> list[bytes]:
    frontier, found = Frontier(), [Frontier().root()]
    for _, data in hublog.entries(limit=10_000):
        frontier.extend([leaf_hash(data)])
        found.append(frontier.root())
    return found


def test_a_new_log_opens_with_its_origin_and_key(hublog: HubLog) -> None:
    (_, data), *rest = hublog.entries()
    facts = read(data).facts
    assert not rest
    assert isinstance(facts, LogOpened)
    assert facts.key == hublog.key.public.text
    assert facts.origin == hublog.origin == load_identity(hublog.home).hub + "/log"
    assert hublog.hub == f"city-of-example/{hublog.key.public.fingerprint}"


def test_every_commit_is_one_checkpoint_and_extends_every_earlier_one(hublog: HubLog) -> None:
    for n in range(20):
        hublog.append([added(f"user{n}.{i}") for i in range(n % 4 + 1)])
    all_roots = roots(hublog)
    checkpoint = open_checkpoint(hublog.checkpoint().encode(), hublog.origin, hublog.key.public)
    assert (checkpoint.size, checkpoint.root) == (hublog.size, all_roots[-1])
    for old in range(hublog.size + 1):
        note, proof = hublog.consistency(old)
        assert note == hublog.checkpoint()
        verify_consistency(old, all_roots[old], checkpoint.size, checkpoint.root, [unb64(p, what="p") for p in proof])


def test_a_proof_from_beyond_the_log_says_the_hub_is_old(hublog: HubLog) -> None:
    with pytest.raises(Conflict) as caught:
        hublog.consistency(hublog.size + 1)
    assert caught.value.code == "hub.behind"


def test_rows_and_entries_commit_together(hublog: HubLog) -> None:
    def rows(conn: Connection, written: list[Written]) -> None:
        conn.execute(insert(META), [{"name": "probe", "value": str(written[0].entry.seq)}])

    (written,) = hublog.append([added("ada")], rows)
    with hublog.store.read() as conn:
        assert conn.execute(select(META.c.value).where(META.c.name == "probe")).scalar() == str(written.entry.seq)


def test_a_refusing_callback_leaves_neither_rows_nor_entries(hublog: HubLog) -> None:
    def rows(conn: Connection, written: list[Written]) -> None:
        conn.execute(insert(META), [{"name": "probe", "value": "x"}])
        raise Conflict("approval.used", "already answered", advice="look at the answer")

    before = (hublog.size, hublog.checkpoint())
    with pytest.raises(Conflict):
        hublog.append([added("ada")], rows)
    assert (hublog.size, hublog.checkpoint()) == before
    with hublog.store.read() as conn:
        assert conn.execute(select(func.count()).select_from(META).where(META.c.name == "probe")).scalar() == 0
    hublog.append([added("bob")])
    assert [read(data).type for _, data in hublog.entries()] == ["log.opened", "user.added"]


def test_bodies_stand_beside_the_entry_and_match_it(hublog: HubLog) -> None:
    (written,) = hublog.append([Draft(UserAdded(user="ada", roles=[]), bodies={"shared": {"note": "hello"}})])
    assert hublog.body(written.entry.seq) == {"note": "hello"}
    assert hublog.body(0) is None
    check_body(written.entry, "shared", written.bodies["shared"])
    with pytest.raises(Tampered):
        check_body(written.entry, "shared", Body(salt="00" * 32, data="{}"))


def test_many_threads_append_without_losing_an_entry(hublog: HubLog) -> None:
    def work(name: str) -> None:
        for i in range(10):
            hublog.append([added(f"{name}.{i}")])

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [read(data) for _, data in hublog.entries()]
    assert [entry.seq for entry in entries] == list(range(61))
    assert all(a.at <= b.at for a, b in itertools.pairwise(entries))


def test_it_goes_on_after_a_restart(home: Path, hublog: HubLog) -> None:
    hublog.append([added("ada")])
    note = hublog.checkpoint()
    hublog.store.close()
    again = Store(home)
    reopened = HubLog(again, clock=hublog.clock, random=secrets.token_bytes)
    assert (reopened.size, reopened.checkpoint()) == (2, note)
    reopened.append([added("bob")])
    assert reopened.size == 3
    again.close()


def test_a_cut_off_entry_stops_the_hub(hublog: HubLog) -> None:
    hublog.append([added("ada")])
    with hublog.store.write() as conn:
        conn.execute(HUB_ENTRIES.delete().where(HUB_ENTRIES.c.seq == 1))
    with pytest.raises(Tampered) as caught:
        HubLog(hublog.store, clock=hublog.clock, random=secrets.token_bytes)
    assert caught.value.code == "hub.log"


def test_a_clock_set_back_is_noted_once_and_time_never_decreases(hublog: HubLog) -> None:
    hublog.append([added("ada")])
    now = hublog.clock()
    hublog.clock.step(-3600)  # type: ignore[attr-defined]
    hublog.append([added("bob")])
    hublog.append([added("cyd")])
    hublog.clock.step(7200)  # type: ignore[attr-defined]
    hublog.append([added("dan")])
    entries = [read(data) for _, data in hublog.entries()]
    assert [entry.type for entry in entries].count("clock.stepped") == 1
    stepped = next(entry.facts for entry in entries if isinstance(entry.facts, ClockStepped))
    assert stepped.behind_us == pytest.approx(3600 * 1_000_000, abs=10)
    assert all(a.at <= b.at for a, b in itertools.pairwise(entries))
    assert entries[-1].at > now


def test_the_home_is_private_and_made_once(home: Path) -> None:
    assert stat.S_IMODE((home / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "keys" / "hub.key").stat().st_mode) == 0o600
    with pytest.raises(Conflict) as caught:
        make_home(home, "Again", secrets.token_bytes)
    assert caught.value.code == "hub.exists"


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb"])
def test_a_hub_needs_a_usable_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput):
        make_home(tmp_path / "hub", name, secrets.token_bytes)


def test_a_missing_home_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        load_identity(tmp_path)
    assert caught.value.code == "hub.missing"
    assert "hub init" in caught.value.advice


def test_one_process_holds_the_lock_and_its_death_frees_it(home: Path) -> None:
    code = "import sys,time,pathlib\nfrom server.store import take_lock\n"
    code += f"with take_lock(pathlib.Path({str(home)!r})):\n    print('held', flush=True)\n    time.sleep(60)\n"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Conflict) as caught, take_lock(home):
            raise AssertionError("two processes hold the lock")
        assert caught.value.code == "hub.locked"
    finally:
        other.kill()
        other.communicate()
    with take_lock(home):
        assert (home / "hub.lock").exists()


def test_the_database_is_wal_and_full_and_of_this_schema(store: Store, home: Path) -> None:
    with store.read() as conn:
        assert conn.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert conn.execute(text("PRAGMA synchronous")).scalar() == 2
        assert conn.execute(text("PRAGMA secure_delete")).scalar() == 1
    with store.write() as conn:
        conn.execute(META.update().values(value="99"))
    with pytest.raises(Conflict) as caught:
        Store(home)
    assert caught.value.code == "store.schema"
