"""The hub's telemetry over what devices really send: ``/metrics`` behind its token, and OTLP to a receiver."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.app import open_hub
from server.config import METRICS_FILE, HubConfig
from server.ingest import Ingest
from server.telemetry import Telemetry
from shared import entries as e
from shared.entries import Draft
from shared.errors import OutriderError
from shared.telemetry.spans import spans
from tests.fakes import FakeDevice
from tests.otlp import Receiver
from tests.server.conftest import Rooms, Served, Serving

MINUTE = 60


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def total(text: str, name: str, **labels: str) -> float:
    return sum(value for key, value in samples(text).get(name, {}).items() if labels.items() <= dict(key).items())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def watch(rooms: Rooms, endpoint: str = "") -> Telemetry:
    """The telemetry of a hub that has just started, and ingest that tells it."""
    config = HubConfig(home=rooms.hublog.store.home, otlp_endpoint=endpoint, otlp_seconds=1)
    made = Telemetry(rooms.hublog.store, config, origin="hub/1", clock=rooms.clock)
    rooms.ingest = Ingest(rooms.hublog, rooms.bus, made.taken)
    return made


def fail(device: FakeDevice, subject: str) -> str:
    run = device.open(subject)
    device.add(Draft(e.StepFailed("triage", "expression.failed"), run=run))
    device.add(Draft(e.RunClosed("failed", "expression.failed"), run=run))
    return run


def order(device: FakeDevice, run: str, what: str) -> None:
    device.add(Draft(e.RunOrdered(what, f"ord_{device.size}", "", "mara", "local"), run=run))


# --- what is counted ----------------------------------------------------------------------------------------------


def test_all_devices_are_counted_together(rooms: Rooms) -> None:
    telemetry = watch(rooms)
    one, two = rooms.join("one"), rooms.join("two")
    one.decide_alone("PA-1")
    two.decide_alone("PA-1")
    two.ask("PA-2")
    rooms.sync(one)
    rooms.sync(two)
    text = telemetry.text()
    assert total(text, "outrider_runs_opened_total", playbook="permits") == 3
    assert total(text, "outrider_runs_closed_total", outcome="done") == 2
    assert total(text, "outrider_runs_open", status="waiting") == 1
    assert total(text, "outrider_log_entries") == one.size + two.size
    assert total(text, "outrider_devices", state="active") == 2
    assert total(text, "outrider_effects_total", tool="register.decide") == 2


def test_no_number_bears_a_device_or_a_run(rooms: Rooms) -> None:
    telemetry = watch(rooms)
    device = rooms.join("front desk of Mara")
    run = device.decide_alone("PA-1")
    rooms.sync(device)
    text = telemetry.text()
    assert total(text, "outrider_runs_opened_total") == 1
    for secret in (device.id, device.origin, device.name, run, "PA-1"):
        assert secret not in text


def test_a_batch_that_comes_twice_is_counted_once_and_a_refused_one_not_at_all(rooms: Rooms) -> None:
    telemetry = watch(rooms)
    device = rooms.join()
    device.decide_alone("PA-1")
    batch = device.batch()
    rooms.ingest.accept(device.id, batch)
    rooms.ingest.accept(device.id, batch)
    assert total(telemetry.text(), "outrider_runs_opened_total") == 1
    run = device.open("PA-2")
    device.add(Draft(e.RunClosed("done", ""), run=run))  # out of order
    with pytest.raises(OutriderError):
        rooms.sync(device)
    assert total(telemetry.text(), "outrider_runs_opened_total") == 1


def test_what_a_late_batch_brings_took_as_long_as_it_took_there(rooms: Rooms) -> None:
    telemetry = watch(rooms)
    device = rooms.join()
    run = fail(device, "PA-1")
    rooms.clock.step(10 * MINUTE)
    order(device, run, "retry")
    rooms.clock.step(24 * 3600)
    rooms.sync(device)
    text = telemetry.text()
    assert total(text, "outrider_recovery_duration_seconds_count", trouble="failure", end="recovered") == 1
    assert 600 <= total(text, "outrider_recovery_duration_seconds_sum") < 601


def test_a_restart_counts_from_zero_and_knows_open_troubles(rooms: Rooms) -> None:
    device = rooms.join()
    failed = fail(device, "PA-1")
    held = device.open("PA-2")
    action = device.plan(held, "PA-2")
    facts = e.VerdictGiven("triage", action.digest, "deny", ["host:no-lease"], 1, action.tool, {"approved": False})
    device.add(Draft(facts, run=held))
    rooms.sync(device)
    telemetry = watch(rooms)
    assert total(telemetry.text(), "outrider_runs_opened_total") == 0
    assert total(telemetry.text(), "outrider_runs_failed") == 1
    assert total(telemetry.text(), "outrider_runs_open", status="held") == 1
    rooms.clock.step(5 * MINUTE)
    order(device, failed, "retry")
    device.judge(held, action, "allow")
    rooms.sync(device)
    text = telemetry.text()
    for trouble in ("failure", "hold"):
        labels = {"trouble": trouble, "end": "recovered"}
        assert total(text, "outrider_recovery_duration_seconds_count", **labels) == 1, trouble
        assert 300 <= total(text, "outrider_recovery_duration_seconds_sum", **labels) < 301
    assert total(text, "outrider_runs_failed") == 0


# --- /metrics -----------------------------------------------------------------------------------------------------


def test_metrics_are_for_who_bears_the_token(serving_hub: Serving) -> None:
    path = serving_hub.hub.config.home / METRICS_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for headers in ({}, {"authorization": "Bearer no"}, {"cookie": "session=x"}):
        status, _, body = serving_hub.request("GET", "/metrics", headers=headers)
        assert status == 401 and b"metrics.token" in body and b"outrider_" not in body
    device = serving_hub.join()
    device.decide_alone("PA-1")
    serving_hub.hub.ingest.accept(device.id, device.batch())
    bearer = {"authorization": f"Bearer {path.read_text().strip()}"}
    status, headers, body = serving_hub.request("GET", "/metrics", headers=bearer)
    assert status == 200 and headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert total(body.decode(), "outrider_runs_closed_total", outcome="done") == 1


def test_the_token_is_not_the_operators(serving_hub: Serving) -> None:
    home: Path = serving_hub.hub.config.home
    bearer = {"authorization": f"Bearer {(home / METRICS_FILE).read_text().strip()}"}
    status, _, _ = serving_hub.request("GET", "/api/admin/devices", headers=bearer)
    assert status == 401
    admin = {"authorization": f"Bearer {(home / 'admin.token').read_text().strip()}"}
    assert serving_hub.request("GET", "/metrics", headers=admin)[0] == 401


# --- OTLP ---------------------------------------------------------------------------------------------------------


def test_a_receiver_gets_what_the_device_itself_would_send(rooms: Rooms, receiver: Receiver) -> None:
    telemetry = watch(rooms, receiver.endpoint)
    one, two = rooms.join("one"), rooms.join("two")
    runs = [(device, device.decide_alone("PA-1")) for device in (one, two)]
    for device, _ in runs:
        rooms.sync(device)
    wanted = {
        span.id
        for device, run in runs
        for span in spans([w.entry for w in device.written if w.entry.run == run], origin=device.origin)
    }
    telemetry.send()
    telemetry.close()
    assert {span.span_id.hex() for span in receiver.spans} == wanted and len(receiver.spans) == len(wanted)
    assert len({span.trace_id for span in receiver.spans}) == 2, "a run of the same name on each device"
    assert "outrider.devices" in receiver.metrics
    ((whose),) = receiver.resources
    assert dict(whose)["service.name"] == "outrider-hub" and dict(whose)["service.instance.id"] == "hub/1"


def test_a_receiver_that_does_not_answer_is_logged(
    rooms: Rooms, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status["/v1/metrics"] = 403
    telemetry = watch(rooms, receiver.endpoint)
    telemetry.send()
    telemetry.close()
    assert "telemetry.unreachable" in caplog.text
    device = rooms.join()
    device.decide_alone("PA-1")
    rooms.sync(device)
    assert total(telemetry.text(), "outrider_runs_closed_total") == 1


def test_without_an_endpoint_nothing_is_sent(rooms: Rooms) -> None:
    telemetry = watch(rooms)
    telemetry.send()
    telemetry.close()
    assert telemetry._sender is None and telemetry.text()


def test_a_serving_hub_sends_by_itself(home: Path, receiver: Receiver) -> None:
    with open_hub(HubConfig(home=home, port=0, otlp_endpoint=receiver.endpoint, otlp_seconds=1)) as hub:
        hub.releases.init_repository()
        served = Served(hub)
        try:
            device = served.serving.join()
            device.decide_alone("PA-1")
            hub.ingest.accept(device.id, device.batch())
            end = time.monotonic() + 60
            while not receiver.spans and time.monotonic() < end:
                time.sleep(0.05)
        finally:
            served.stop()
    assert {span.name.split()[0] for span in receiver.spans} == {"invoke_agent", "step", "plan", "execute_tool"}
