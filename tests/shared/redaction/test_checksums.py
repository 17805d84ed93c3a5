"""Check digits, against published examples and their corruption."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.redaction import checksums


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (checksums.luhn, "79927398713"),
        (checksums.iban, "GB29NWBK60161331926819"),
        (checksums.iban, "DE89370400440532013000"),
        (checksums.card, "4111111111111111"),
        (checksums.card, "378282246310005"),
        (checksums.verhoeff, "2363"),
        (checksums.mod_11_10, "86095742719"),
        (checksums.codice_fiscale, "RSSMRA85T10A562S"),
        (checksums.vin, "1M8GDM9AXKP042788"),
    ],
)
def test_one_wrong_digit_is_noticed(check: Callable[[str], bool], good: str) -> None:
    assert check(good)
    place = len(good) - 2
    for digit in set("0123456789") - {good[place]}:
        if good[place].isdigit():
            assert not check(good[:place] + digit + good[place + 1 :]), digit


def test_a_card_needs_a_network_that_uses_its_length() -> None:
    assert not checksums.card("0000000000000000")
    assert not checksums.card("9111111111111111")
    assert not checksums.card("41111111111111111")
