"""People's key files: other tools read them, random secrets seal them, their first line alone is not believed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from shared.errors import BadInput, OutriderError, Refused, Tampered
from shared.keyfile import new_secret, read_key, read_public, sealed, write_key
from shared.keys import SigningKey, vkey

KEY = SigningKey(b"k" * 32)
SECRET = new_secret(lambda size: bytes(range(size)))
PLAIN = write_key("alice", KEY)
SEALED = write_key("alice", KEY, SECRET)


def refused(kind: type[OutriderError], code: str, data: bytes, secret: str = "") -> None:
    with pytest.raises(kind) as caught:
        read_key(data, "x", secret)
    assert caught.value.code == code and caught.value.advice


def test_a_secret_has_160_bits_that_can_be_written_down() -> None:
    assert SECRET == "AAAQ-EAYE-AUDA-OCAJ-BIFQ-YDIO-B4IB-CEQT"
    assert new_secret(lambda size: b"x" * size) != SECRET


def test_round_trip() -> None:
    for data, secret in ((PLAIN, ""), (SEALED, SECRET), (PLAIN, SECRET)):
        name, key = read_key(data, "x", secret)
        assert (name, key.secret_bytes()) == ("alice", KEY.secret_bytes())
        assert read_public(data, "x") == ("alice", KEY.public)
    assert sealed(SEALED) and not sealed(PLAIN)
    assert KEY.secret_bytes() not in SEALED


@pytest.mark.parametrize("typed", [SECRET.lower(), SECRET.replace("-", " "), SECRET.replace("-", "") + "\n"])
def test_a_secret_as_people_type_it(typed: str) -> None:
    assert read_key(SEALED, "x", typed)[0] == "alice"


def test_without_the_secret() -> None:
    refused(Refused, "key.sealed", SEALED)
    refused(Refused, "key.secret", SEALED, new_secret(lambda size: b"y" * size))


@pytest.mark.parametrize("data", [b"", b"nonsense", PLAIN[:120], b"\xff\n" + PLAIN.split(b"\n", 1)[1]])
def test_what_is_no_key_file(data: bytes) -> None:
    refused(BadInput, "key.file", data)
    rsa = generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    refused(BadInput, "key.file", rsa)


def test_a_first_line_of_another_key() -> None:
    other = vkey("alice", SigningKey(b"o" * 32).public).encode()
    refused(Tampered, "key.line", other + b"\n" + PLAIN.split(b"\n", 1)[1])


def test_one_without_the_line_is_called_as_its_file() -> None:
    data = PLAIN.split(b"\n", 1)[1]
    assert read_key(data, "root-1")[0] == "root-1"
    assert read_public(data, "root-1") == ("root-1", KEY.public)


@pytest.mark.parametrize("name", ["", "Alice", "a b", "a/b", "../a", "a+b", "ä", "a" * 65])
def test_names(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        write_key(name, KEY)
    assert caught.value.code == "key.name"


@pytest.mark.parametrize(("data", "extra"), [(PLAIN, []), (SEALED, ["-passin", "pass:" + SECRET.replace("-", "")])])
def test_openssl_reads_it(tmp_path: Path, data: bytes, extra: list[str]) -> None:
    openssl = shutil.which("openssl")
    assert openssl, "installers/system.sh installs it"
    path = tmp_path / "alice.key"
    path.write_bytes(data)
    done = subprocess.run(
        [openssl, "pkey", "-in", str(path), *extra, "-pubout", "-outform", "DER"], capture_output=True, check=True
    )
    assert done.stdout.endswith(KEY.public.raw)
