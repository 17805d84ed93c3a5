"""How a tool set shows who it is: secrets by name from the store, tokens fetched with them and kept until they end.

A secret is read when it is needed, so one that was replaced works at the next call. What was shown is remembered, so
that it can be struck out of anything the service sends back: an answer that repeats a token must not carry it into the
log.
"""

from __future__ import annotations

import base64
import re
import threading
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus, urlencode

from edge_agent.tools import NotSent
from edge_agent.tools.build import Place
from edge_agent.tools.http.addresses import parse_url
from edge_agent.tools.http.answers import later, parsed
from edge_agent.tools.http.table import Basic, Bearer, ClientCredentials, Header, NoAuth
from edge_agent.tools.http.transport import Answer, Call
from shared.errors import OutriderError, Refused, Unavailable

Exchange = Callable[[Call, float], Answer]

_TOKEN = re.compile(r"[!-~]{1,8000}")  # RFC 6750 allows less; anything else cannot stand in a header
_DEFAULT_LIFE_S = 300  # of a token that does not say when it ends
_MARGIN_S = 30
_US = 1_000_000


class Auth:
    """Shows nothing. The others derive from it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._shown: deque[str] = deque(maxlen=8)

    def headers(self, exchange: Exchange, deadline: float) -> dict[str, str]:
        """The headers to send. Raises ``NotSent`` or ``Refused``: nothing was sent to the service yet."""
        return {}

    def renew(self) -> bool:
        """After a 401: whether it is worth another try with fresh headers."""
        return False

    def strike(self, text: str) -> str:
        """``text`` without any secret that was shown lately."""
        for secret in tuple(self._shown):  # other threads add to it
            text = text.replace(secret, "[secret]")
        return text

    def _secret(self, name: str) -> str:
        """The secret, without white space around it."""
        try:
            value = self._place.secret(name).strip()
        except Unavailable as error:  # to the engine that would mean "nobody knows", and nothing was sent
            raise NotSent(error.code, error.message, advice=error.advice, where=error.where) from error
        if not value or not value.isascii() or not value.isprintable():
            raise Refused(
                "web.secret", f"the secret {name} cannot stand in a header", advice="set it again, in one line of ASCII"
            )
        self._show(value)
        return value

    def _show(self, value: str) -> None:
        if value not in self._shown:
            self._shown.append(value)


class _BearerAuth(Auth):
    def __init__(self, place: Place, given: Bearer) -> None:
        super().__init__(place)
        self._given = given

    def headers(self, exchange: Exchange, deadline: float) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._secret(self._given.secret)}"}


class _HeaderAuth(Auth):
    def __init__(self, place: Place, given: Header) -> None:
        super().__init__(place)
        self._given = given

    def headers(self, exchange: Exchange, deadline: float) -> dict[str, str]:
        return {self._given.header: self._secret(self._given.secret)}


class _BasicAuth(Auth):
    def __init__(self, place: Place, given: Basic) -> None:
        super().__init__(place)
        self._given = given

    def headers(self, exchange: Exchange, deadline: float) -> dict[str, str]:
        shown = _basic(self._given.user, self._secret(self._given.secret))
        self._show(shown)
        return {"Authorization": f"Basic {shown}"}


class _TokenAuth(Auth):
    """One token for all calls of the set; who comes while it is fetched waits for it."""

    def __init__(self, place: Place, given: ClientCredentials) -> None:
        super().__init__(place)
        self._given = given
        self._url = parse_url(given.token_url)
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0  # microseconds since 1970 UTC

    def headers(self, exchange: Exchange, deadline: float) -> dict[str, str]:
        with self._lock:
            if not self._token or self._place.now() >= self._until:
                self._token, life_s = self._fetch(exchange, deadline)
                self._until = self._place.now() + life_s * _US
                self._show(self._token)
            return {"Authorization": f"Bearer {self._token}"}

    def renew(self) -> bool:
        with self._lock:
            self._token = ""
        return True

    def _fetch(self, exchange: Exchange, deadline: float) -> tuple[str, int]:
        """A new token and its life in seconds, a margin taken off."""
        given, secret = self._given, self._secret(self._given.secret)
        form = {"grant_type": "client_credentials"} | ({"scope": given.scope} if given.scope else {})
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        if given.send == "basic":
            shown = _basic(quote_plus(given.client_id), quote_plus(secret))  # RFC 6749, 2.3.1
            self._show(shown)
            headers["Authorization"] = f"Basic {shown}"
        else:
            form |= {"client_id": given.client_id, "client_secret": secret}
        try:
            answer = exchange(Call("POST", self._url, headers, urlencode(form).encode()), deadline)
        except NotSent:
            raise
        except Unavailable as error:  # a token that was perhaps made harms nobody; the call itself was not sent
            raise NotSent(error.code, error.message, advice="the token service is tried again later") from error
        return self._read(answer)

    def _read(self, answer: Answer) -> tuple[str, int]:
        said = parsed(answer)
        said = said if isinstance(said, dict) else {}
        if answer.status >= 500 or answer.status == 429:
            raise NotSent(
                "web.token-later", f"{self._url} answered {answer.status}{later(answer)}", advice="it is tried again"
            )
        token = said.get("access_token")
        if answer.status != 200 or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise self._refused(answer.status, said)
        if str(said.get("token_type", "")).lower() != "bearer":
            raise self._refused(answer.status, {"error": "a token that is no bearer token"})
        try:
            life = int(str(said.get("expires_in", _DEFAULT_LIFE_S)).partition(".")[0])
        except ValueError:
            life = _DEFAULT_LIFE_S
        return token, max(0, life - min(_MARGIN_S, life // 10))

    def _refused(self, status: int, said: dict[str, Any]) -> OutriderError:
        why = said.get("error")
        told = f": {why}" if isinstance(why, str) and re.fullmatch(r"[a-z_ ]{1,60}", why) else ""
        return Refused(
            "web.token", f"{self._url} gave no token ({status}{told})", advice="check client_id, secret and scope"
        )


def make_auth(place: Place, given: NoAuth | Bearer | Header | Basic | ClientCredentials) -> Auth:
    match given:
        case Bearer():
            return _BearerAuth(place, given)
        case Header():
            return _HeaderAuth(place, given)
        case Basic():
            return _BasicAuth(place, given)
        case ClientCredentials():
            return _TokenAuth(place, given)
        case NoAuth():
            return Auth(place)


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
