"""A person at the hub's console, as the demo plays one: signs in, reads the pages, fills in the forms they show."""

from __future__ import annotations

import html.parser
import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field

from demo_kit import Stop


@dataclass
class Form:
    """A form of a page: where it goes, its fields as they stand, and what each may be where it is a choice."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    choices: dict[str, list[str]] = field(default_factory=dict)
    secret: str = ""


class _Forms(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._form: Form | None = None
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        got = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(got.get("action", ""))
            self.forms.append(self._form)
        form, name = self._form, got.get("name", "")
        if form is None:
            return
        if tag == "option" and self._select:
            form.choices[self._select].append(got.get("value", ""))
            if "selected" in got or self._select not in form.fields:
                form.fields[self._select] = got.get("value", "")
        elif name and tag == "select":
            self._select = name
            form.choices.setdefault(name, [])
        elif name and tag == "textarea":
            form.fields[name] = ""
        elif name and tag == "input":
            kind = got.get("type", "text")
            if kind == "radio":
                form.choices.setdefault(name, []).append(got.get("value", ""))
            if kind == "password":
                form.secret = name
            if kind not in ("radio", "checkbox", "submit") or "checked" in got:
                form.fields[name] = got.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""


class Console:
    """A browser without pictures: it keeps cookies, fills in the forms that the pages show, and sends them."""

    def __init__(self, base: str) -> None:
        self._base = base
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)

    def get(self, path: str) -> str:
        return self._ask(path, None)

    def forms(self, path: str) -> list[Form]:
        parser = _Forms()
        parser.feed(self.get(path))
        return parser.forms

    def send(self, form: Form, **values: str) -> str:
        return self._ask(form.action, {**form.fields, **values})

    def _ask(self, path: str, values: dict[str, str] | None) -> str:
        url = urllib.parse.urljoin(self._base, path)
        data = urllib.parse.urlencode(values).encode() if values is not None else None
        request = urllib.request.Request(url, data, headers={"Origin": self._base} if data else {})  # noqa: S310 - our hub
        try:
            with self._opener.open(request, timeout=20) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            said = re.sub(r"<[^>]+>|\s+", " ", error.read().decode("utf-8", "replace"))
            raise Stop(f"the console answered {error.code} to {path}: {said[:600]}", "see the hub's log") from error
        except OSError as error:
            raise Stop(f"the console did not answer at {url}: {error}", "see the hub's log") from error

    def sign_in(self, user: str, password: str) -> None:
        form = next((form for form in self.forms("/login") if form.secret), None)
        if form is None:
            raise Stop("the sign-in page shows no form with a password", "see the hub's log")
        shown = next((name for name in form.fields if name not in ("csrf", "next", form.secret)), "name")
        self.send(form, **{shown: user, form.secret: password})
        if any(one.secret for one in self.forms("/approvals")):
            raise Stop(f"{user} could not sign in", "see the hub's log")

    def waiting(self) -> list[str]:
        """Ids of the approvals shown as waiting, in the page's order: those whose page has an answer form."""
        return list(dict.fromkeys(re.findall(r"/approvals/(app_[0-9a-f]+)/answer", self.get("/approvals"))))

    def answer(self, approval: str, answer: str, reason: str, **arguments: str) -> None:
        """Send the form of that page which gives this answer. A choice is one that the page offers."""
        for form in self.forms(f"/approvals/{approval}"):
            if form.action.endswith("/answer") and form.fields.get("answer") == answer:
                break
        else:
            raise Stop(f"the page of approval {approval} has no form to {answer} it", "see the hub's log")
        values = {f"arg.{name}": value for name, value in arguments.items()}
        for name, value in values.items():
            if value not in form.choices.get(name, [value]):
                raise Stop(f"the page of approval {approval} does not offer {value}", "see the page")
        if "reason" in form.fields:
            values["reason"] = reason
        self.send(form, **values)
