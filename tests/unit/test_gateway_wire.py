"""Values on the wire: what is accepted, what is refused with which words, and that no digit is lost."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.layout import AMOUNT_MAX
from gateway.problems import Problem
from gateway.wire import (
    JSON_INTEGER_MAX,
    Amount,
    Balance,
    Instant,
    Unsigned64,
    WrongValue,
    decode,
    decode_value,
    encode,
)


class Line(msgspec.Struct, forbid_unknown_fields=True):
    amount: Amount
    note: str = ""


class Basket(msgspec.Struct, forbid_unknown_fields=True):
    lines: list[Line]
    floor: Balance | None = None
    at: Instant | None = None
    tag: Unsigned64 = Unsigned64(0)


DECODER = msgspec.json.Decoder(Basket, dec_hook=decode_value)


def problem(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        decode(DECODER, body)
    return caught.value


@given(st.integers(0, AMOUNT_MAX))
def test_amount_survives_the_round_trip(amount: int) -> None:
    body = encode(Line(Amount(amount)))
    assert msgspec.json.decode(body, type=Line, dec_hook=decode_value).amount == amount
    sent = msgspec.json.decode(body)["amount"]
    assert sent == (amount if amount <= JSON_INTEGER_MAX else str(amount))


@given(st.integers(0, AMOUNT_MAX - 10**9))
def test_instant_survives_the_round_trip(nanoseconds: int) -> None:
    assert Instant.from_json(Instant(nanoseconds).text) == nanoseconds
    assert Instant.from_json(nanoseconds) == nanoseconds
    assert Instant.from_json(str(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("2011-12-09T12:50:00+00:00", 1323435000 * 10**9),
        ("2011-12-09T12:50:00 00:00", 1323435000 * 10**9),
        ("2011-12-09 14:50:00.5+02:00", 1323435000 * 10**9 + 5 * 10**8),
        ("2011-12-09t10:50:00-02:00", 1323435000 * 10**9),
    ],
)
def test_instant_reads_rfc_3339(text: str, nanoseconds: int) -> None:
    assert Instant.from_json(text) == nanoseconds


@pytest.mark.parametrize(
    "value",
    [
        "2011-12-09",
        "2011-12-09T12:50:00",
        "2011-13-09T12:50:00Z",
        "2011-12-09T25:50:00Z",
        "1969-12-31T23:59:59Z",
        "2270-01-01T00:00:00Z",
        "yesterday",
        "",
        -1,
        1.5,
        True,
        None,
        [],
        2**63,
    ],
)
def test_instant_refuses_everything_else(value: object) -> None:
    with pytest.raises(WrongValue):
        Instant.from_json(value)


@pytest.mark.parametrize(
    ("json", "code"),
    [
        ("1.5", "invalid_amount"),
        ("1.0", "invalid_amount"),
        ("1e3", "invalid_amount"),
        ("true", "invalid_amount"),
        ("null", "invalid_amount"),
        ("[]", "invalid_amount"),
        ("{}", "invalid_amount"),
        ('"1.5"', "invalid_amount"),
        ('""', "invalid_amount"),
        ('" 1"', "invalid_amount"),
        ('"1_000"', "invalid_amount"),
        ('"٣"', "invalid_amount"),
        ('"NaN"', "invalid_amount"),
        ('"Infinity"', "invalid_amount"),
        ("-1", "negative_amount"),
        ('"-1"', "negative_amount"),
        (str(2**63), "invalid_amount"),
        (f'"{2**63}"', "invalid_amount"),
        ("9" * 400, "invalid_amount"),
        (f'"{"9" * 5000}"', "invalid_amount"),
    ],
)
def test_wrong_amount_names_its_field(json: str, code: str) -> None:
    found = problem(f'{{"lines":[{{"amount":1}},{{"amount":{json}}}]}}'.encode())
    assert (found.status, found.code, found.where) == (422, code, "lines[1].amount")
    assert found.detail.startswith("lines[1].amount: ")
    assert len(found.detail) < 300


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"lines":[{"amount":NaN}]}',
        b'{"lines":[{"amount":Infinity}]}',
        b'{"lines":[]}x',
        b"\xff\xfe",
        b'{"lines":[{"amount":1,"note":"\xff"}]}',
        b'{"lines":[{"amount":1,"note":"\\ud800"}]}',
        b'{"lines":[{"amount":1,"note":"\x00"}]}',
    ],
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    found = problem(body)
    assert (found.status, found.code) == (400, "malformed_json")


def test_deep_nesting_is_refused() -> None:
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(dict[str, Any], dec_hook=decode_value)
    with pytest.raises(Problem) as caught:
        decode(decoder, b'{"a":' + b"[" * 100_000)
    assert caught.value.code == "malformed_json"


@pytest.mark.parametrize("text", [b"a\\u0000b", b"\\u0000"])
def test_nul_in_text_is_refused(text: bytes) -> None:
    found = problem(b'{"lines":[{"amount":1,"note":"%b"}]}' % text)
    assert (found.status, found.where) == (422, "lines[0].note")


def test_escaped_backslash_before_u0000_is_text_like_any_other() -> None:
    assert decode(DECODER, rb'{"lines":[{"amount":1,"note":"\\u0000"}]}').lines[0].note == "\\u0000"


def test_unknown_field_is_refused_and_the_known_ones_named() -> None:
    found = problem(b'{"lines":[{"amount":1,"colour":"red"}]}')
    assert (found.status, found.code, found.where) == (422, "unknown_field", "lines[0].colour")
    assert found.accepted == "amount, note"


def test_missing_field_is_named() -> None:
    found = problem(b'{"lines":[{}]}')
    assert (found.status, found.code, found.where) == (422, "missing_field", "lines[0].amount")


def test_negative_balance_is_accepted_and_large_ones_are_sent_as_text() -> None:
    basket = decode(DECODER, b'{"lines":[],"floor":-50000,"tag":"18446744073709551615"}')
    assert basket.floor == -50000
    assert encode(basket.floor) == b"-50000"
    assert encode(Balance(-(2**60))) == b'"-1152921504606846976"'
    assert encode(basket.tag) == b'"18446744073709551615"'
