"""One agent per home, however the one before it ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge_agent.lock import Lock, is_held
from shared.errors import Conflict, Unavailable

HOLDER = (
    "import sys, time; from pathlib import Path; from edge_agent.lock import Lock;"
    " lock = Lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
)


def test_the_second_is_told_and_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    assert not is_held(path)
    lock = Lock(path)
    assert is_held(path)
    with pytest.raises(Conflict) as caught:
        Lock(path)
    assert caught.value.code == "agent.running"
    assert str(tmp_path) in caught.value.message
    assert is_held(path)
    lock.release()
    assert not is_held(path)
    Lock(path).release()


@pytest.mark.system
def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_held(path)
        with pytest.raises(Conflict):
            Lock(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert not is_held(path)
    Lock(path).release()


def test_looking_does_not_keep_an_agent_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    Lock(path).release()
    end = threading.Event()

    def look() -> None:
        while not end.is_set():
            is_held(path)
            time.sleep(0.001)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(50):
            Lock(path).release()
    finally:
        end.set()
        for looker in lookers:
            looker.join()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        Lock(tmp_path / "none" / "agent.lock")
    assert caught.value.code == "agent.lock"
    assert not is_held(tmp_path / "none" / "agent.lock")
