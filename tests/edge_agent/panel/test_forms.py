"""Bodies of forms, as browsers send them and as strangers might."""

from __future__ import annotations

import httpx
import pytest

from edge_agent.panel.forms import FILE_BYTES, FORM_BYTES, parts
from shared.errors import BadInput
from tests.edge_agent.panel.kit import Office

BODY = (
    b'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\ntoken\r\n'
    b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\none\r\ntwo \xc3\xa4\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a b.md"\r\nContent-Type: text/markdown\r\n\r\n'
    b"--- \r\n\xff\x00\r\n\r\n--b--\r\n"
)


def test_a_form_with_a_file() -> None:
    form = parts(BODY, b"b")
    assert form.get("csrf") == "token" and form.text("text") == "one\ntwo ä"
    assert (form.file, form.data) == ("a b.md", b"--- \r\n\xff\x00\r\n"), "a file's bytes are left as they are"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", BODY[:-6], BODY[3:], b"--b--", b"before" + BODY, BODY.replace(b'name="text"', b""),
        BODY.replace(b"\xc3\xa4", b"\xc3"), BODY.replace(b"\r\n\r\ntoken", b""),
        b"--b\r\n\r\n\r\nx" * 300 + b"\r\n--b--",
    ],
)  # fmt: skip
def test_what_is_not_whole_is_refused(body: bytes) -> None:
    if body == b"--b--":
        assert parts(body, b"b").fields == {}
        return
    with pytest.raises(BadInput, match="panel.form"):
        parts(body, b"b")


def test_bodies_of_other_kinds_and_sizes_are_refused(office: Office) -> None:
    browsing = office.browse()
    browsing.get("/memory/new")
    url, origin = browsing.base + "/memory/new", {"Origin": office.origin}
    cases = [
        (b"{}", "application/json", 400, "panel.form"),
        (b"text=x", "text/plain", 400, "panel.form"),
        (b"text=x", "multipart/form-data", 400, "panel.form"),
        (b"\xff=x", "application/x-www-form-urlencoded", 400, "panel.form"),
        (b"text=%ff", "application/x-www-form-urlencoded", 400, "panel.form"),
        (b"x" * (FORM_BYTES + 1), "application/x-www-form-urlencoded", 413, "api.too-large"),
        (b"&".join([b"a=1"] * 300), "application/x-www-form-urlencoded", 400, "panel.form"),
        (b"--b" + b"x" * FILE_BYTES, "multipart/form-data; boundary=b", 413, "api.too-large"),
        (b"", "application/x-www-form-urlencoded", 403, "panel.csrf"),
    ]
    for body, kind, status, code in cases:
        answer = httpx.post(
            url, content=body, headers=origin | {"Content-Type": kind}, cookies=browsing.http.cookies, timeout=60
        )
        assert (answer.status_code, code in answer.text) == (status, True), (kind, body[:20], answer.text[-600:])
