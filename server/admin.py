"""What an operator does to a hub from its own machine: through the running hub where one runs, else directly.

A running hub holds the home's lock, writes its address to ``HOME/address`` and takes orders over loopback from whoever
can read ``HOME/admin.token``. Without one, the command takes the lock itself and does the same thing. The rooms are
imported only then: asking a running hub needs none of them.
"""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from server.config import ADDRESS_FILE, ADMIN_FILE, HubConfig
from shared.errors import KINDS, BadInput, Conflict, OutriderError, Unavailable

if TYPE_CHECKING:
    from server.app import Hub

STARTERS = Path(__file__).parent / "starter"
OPERATOR = "operator"
_FIRST_ROLES = ["admin", "clerk"]
_TIMEOUT_S = 60
_STARTING_S = 15.0  # a hub may hold the lock this long before it answers


def init(
    config: HubConfig, *, name: str, starter: str, user: str, password: str, random: Callable[[int], bytes]
) -> dict[str, Any]:
    """Make a hub: keys, repository, database, the workspace of a starter, and a first user who may do everything.

    It is made beside its place and moved there when it is whole, so that a failure leaves nothing half-made.
    """
    from server.users import check_user

    known = sorted(path.name for path in STARTERS.iterdir() if path.is_dir()) if STARTERS.is_dir() else []
    if starter not in known:
        raise BadInput("hub.starter", f"there is no starter {starter!r}", advice=f"use one of {', '.join(known)}")
    check_user(user, password, _FIRST_ROLES)
    home = config.home
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise Conflict("hub.exists", "something is there already", advice="choose another --home", where=str(home))
    draft = home.with_name(f".{home.name}.{random(4).hex()}")
    try:
        made = _make(config.model_copy(update={"home": draft}), name, starter, user, password, random)
        _move(draft, home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return made | {"home": str(home)}


def _make(
    config: HubConfig, name: str, starter: str, user: str, password: str, random: Callable[[int], bytes]
) -> dict[str, Any]:
    from server.app import open_hub
    from server.store import make_home
    from server.store.home import make_token

    identity = make_home(config.home, name, random)
    make_token(config.home / ADMIN_FILE)
    with open_hub(config) as hub:
        hub.releases.init_repository()
        shutil.copytree(STARTERS / starter, config.home / "workspace")
        hub.users.add(user, password, _FIRST_ROLES)
    return {"name": identity.name, "hub": identity.hub, "user": user, "starter": starter}


def _move(draft: Path, home: Path) -> None:
    try:
        if home.exists():
            home.rmdir()
        draft.rename(home)
    except OSError as error:
        raise Unavailable(
            "hub.home", f"{error.strerror}", advice="check the directory and its owner", where=str(home)
        ) from error


class Operator:
    """The operator's acts on the hub in ``config.home``."""

    def __init__(self, config: HubConfig) -> None:
        self._config = config

    def token(self, ttl_s: int) -> str:
        return str(self._do("POST", "token", {"ttl_s": ttl_s})["token"])

    def publish(self, *, staged: bool = False) -> dict[str, Any]:
        """``release`` is its number; ``proposal`` is not empty while people must still sign it."""
        done: dict[str, Any] = self._do("POST", "publish", {"staged": staged})
        return done

    def add_user(self, name: str, password: str, roles: list[str]) -> None:
        self._do("POST", "users", {"name": name, "password": password, "roles": roles})

    def revoke(self, device: str) -> None:
        self._do("POST", "revoke", {"device": device})

    def devices(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._do("GET", "devices", None)
        return found

    def memory(self, act: str, **given: str) -> dict[str, Any]:
        """An order about memory: the fields of ``MemoryOrder``."""
        done: dict[str, Any] = self._do("POST", "memory", {"act": act} | given)
        return done

    def model(self, act: str, **given: Any) -> dict[str, Any]:
        """An order about models: the fields of ``ModelOrder``."""
        done: dict[str, Any] = self._do("POST", "model", {"act": act} | given)
        return done

    def door(self, act: str, **given: str | int | list[str]) -> dict[str, Any]:
        """An order about tokens of documents: the fields of ``DoorOrder``."""
        done: dict[str, Any] = self._do("POST", "door", {"act": act} | given)
        return done

    def stop(self, act: str, **given: str) -> dict[str, Any]:
        """An order about stops: the fields of ``SwitchOrder``."""
        done: dict[str, Any] = self._do("POST", "stop", {"act": act} | given)
        return done

    def rollout(self, act: str, **given: Any) -> dict[str, Any]:
        """An order about rollouts: the fields of ``RolloutOrder``."""
        done: dict[str, Any] = self._do("POST", "rollout", {"act": act} | given)
        return done

    def replay(self, act: str, **given: Any) -> dict[str, Any]:
        """An order about replay and reconciliation: the fields of ``ReplayOrder``."""
        done: dict[str, Any] = self._do("POST", "replay", {"act": act} | given)
        return done

    def trust(self, act: str, **given: Any) -> dict[str, Any]:
        """An order about keys and signatures: the fields of ``TrustOrder``."""
        done: dict[str, Any] = self._do("POST", "trust", {"act": act} | given)
        return done

    def _do(self, method: str, what: str, body: dict[str, Any] | None) -> Any:
        """Ask the hub that runs; where none does, be the hub for a moment; where one is starting or stopping, wait."""
        deadline = time.monotonic() + _STARTING_S
        while True:
            try:
                return _ask(self._config.home, method, what, body)
            except Unavailable as error:
                if error.code != "hub.unreachable":
                    raise
                waited = error
            try:
                return _directly(self._config, what, body or {})
            except Conflict as error:
                if error.code != "hub.locked":
                    raise
            if time.monotonic() > deadline:
                raise waited
            time.sleep(0.2)


def _directly(config: HubConfig, what: str, body: dict[str, Any]) -> Any:
    from server.app import open_hub

    with open_hub(config) as hub:
        return _act(hub, what, body)


def _act(hub: Hub, what: str, body: dict[str, Any]) -> Any:
    match what:
        case "token":
            return {"token": hub.devices.issue_token(OPERATOR, body["ttl_s"])}
        case "publish":
            done = hub.authoring.publish_folder(OPERATOR, staged=body["staged"])
            return {"release": done.release, "proposal": done.proposal}
        case "users":
            hub.users.add(body["name"], body["password"], body["roles"])
        case "revoke":
            hub.devices.revoke(body["device"], OPERATOR)
        case "memory":
            from server.memory import MemoryOrder, carry_out

            return carry_out(hub.memory, MemoryOrder(**body), OPERATOR)
        case "model":
            from server import models

            return models.carry_out(hub.models, msgspec.convert(body, models.ModelOrder), OPERATOR)
        case "door":
            from server import doors

            return doors.carry_out(hub.doors, doors.DoorOrder(**body), OPERATOR)
        case "stop":
            from server.switches import SwitchOrder

            return hub.switches.carry_out(SwitchOrder(**body), OPERATOR)
        case "rollout":
            return _roll_out(hub, body)
        case "replay":
            from server import replay

            return replay.carry_out(hub.replays, hub.reconcile, replay.ReplayOrder(**body), OPERATOR, ("admin",))
        case "trust":
            from server.releases import orders
            from shared.codec import canonical, parse

            order = parse(canonical(body), orders.TrustOrder, code="http.body", what="the order")
            return orders.carry_out(hub.releases, order, OPERATOR)
        case "devices":
            return [vars(device) for device in hub.devices.list()]
    return {}


def _roll_out(hub: Hub, body: dict[str, Any]) -> Any:
    from server import rollouts
    from shared.codec import parse

    order = parse(json.dumps(body), rollouts.RolloutOrder, code="http.body", what="the request")
    return rollouts.carry_out(hub.rollouts, order, OPERATOR, ("admin",))


def _ask(home: Path, method: str, what: str, body: dict[str, Any] | None) -> Any:
    """The same, by the hub that runs."""
    address = urlsplit(_read(home / ADDRESS_FILE))
    secret = _read(home / ADMIN_FILE)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    try:
        connection.request(method, f"/api/admin/{what}", json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(
            "hub.unreachable", f"the hub does not answer: {error}", advice="is it starting or stopping? try again"
        ) from error
    finally:
        connection.close()
    if response.status != 200:
        raise _error(answer)
    return answer


def _error(said: Any) -> OutriderError:
    told = said if isinstance(said, dict) else {}
    kind = KINDS.get(str(told.get("kind")), Unavailable)
    code, message = str(told.get("code", "hub.internal")), str(told.get("message", "the hub failed"))
    advice = str(told.get("advice", "look into the hub's own output"))
    return kind(code, message, advice=advice, where=str(told.get("where", "")))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(
            "hub.unreachable",
            "a hub runs here, but has not said where",
            advice="try again in a moment",
            where=str(path),
        ) from error


def announce(home: Path, address: str) -> None:
    """Let this machine's commands find the running hub."""
    (home / ADDRESS_FILE).write_text(address + "\n", encoding="ascii")


def withdraw(home: Path) -> None:
    (home / ADDRESS_FILE).unlink(missing_ok=True)
