"""The chart of accounts: what keys are accepted, what guards and owners follow from them."""

import pickle

import pytest

from engine import ids
from engine.chart import CLASSES, Chart, ChartError, Guards, credit_normal, parse_key, purpose_rules
from engine.layout import CEILING_UNSET, FLOOR_UNSET

PARTY = ids.uuid7(1_700_000_000_000, 0, 7)
MOVE = ids.uuid7(1_700_000_000_000, 77, 8)
P = ids.format_id(PARTY)
M = ids.format_id(MOVE)
OPEN = (FLOOR_UNSET, CEILING_UNSET)


@pytest.fixture
def chart() -> Chart:
    return Chart("t", platform_bucket=3)


def test_key_is_taken_apart() -> None:
    parsed = parse_key(f"M:reversible/{M}#12/psp")
    assert parsed.klass is CLASSES["M"]
    assert parsed.purpose == "reversible"
    assert parsed.parts == (("reversible", ""), (M, "12"), ("psp", ""))


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "expected class:purpose"),
        ("cash", "expected class:purpose"),
        ("A:", "expected class:purpose"),
        ("A:psp/", "expected class:purpose"),
        ("A:psp//x", "expected class:purpose"),
        ("A:p sp", "expected class:purpose"),
        ("A:psp#", "expected class:purpose"),
        ("A:caf\u00e9", "expected class:purpose"),
        ("A:psp\n", "expected class:purpose"),
        ("Z:psp", "the classes are A"),
        ("A:a/b/c/d/e/f/g", "more than 6 parts"),
        ("A:" + "x" * 199, "longer than 200"),
    ],
)
def test_bad_key_is_refused_saying_what_is_accepted(key: str, says: str, chart: Chart) -> None:
    with pytest.raises(ChartError, match=says):
        chart.account(key)


@pytest.mark.parametrize(
    "key", ["L:wallet", "L:wallet/bob", f"L:wallet/{P.upper()}", "L:order/o", f"L:payout/{P}"]
)
def test_key_without_its_owner_is_refused(key: str, chart: Chart) -> None:
    with pytest.raises(ChartError, match="needs a"):
        chart.account(key)


def test_error_survives_pickling() -> None:
    error = ChartError("Z:x", "why")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert (copy.key, copy.reason, str(copy)) == ("Z:x", "why", str(error))


@pytest.mark.parametrize(
    ("key", "guards"),
    [
        ("A:psp", OPEN),
        (f"A:ar/{P}#i1", OPEN),
        ("R:sales#A", OPEN),
        ("X:baddebt", OPEN),
        ("E:fx", OPEN),
        ("L:tax/de", OPEN),
        ("L:opening.contra", OPEN),
        ("M:reversible.contra", OPEN),
        ("I:world", OPEN),
        ("I:issued/plan1", OPEN),
        ("I:backlog/w", OPEN),
        (f"L:wallet/{P}", (0, CEILING_UNSET)),
        (f"L:order/{M}", (0, CEILING_UNSET)),
        (f"L:order/{M}/frozen", (0, CEILING_UNSET)),
        ("L:grni/v", (0, CEILING_UNSET)),
        (f"L:seller/{P}/pending", (0, CEILING_UNSET)),
        (f"L:seller/{P}/available", (-1500, CEILING_UNSET)),
        (f"M:reversible/{M}#1/psp", (FLOOR_UNSET, 0)),
        (f"I:owned/{P}", (FLOOR_UNSET, 0)),
        ("I:avail/w#1", (FLOOR_UNSET, 0)),
        (f"A:overdraft/{P}", (0, CEILING_UNSET)),
        (f"M:credit/{P}", (0, 0)),
    ],
)
def test_default_guards_in_kernel_terms(key: str, guards: tuple[int, int]) -> None:
    spec = Chart("t", purpose_rules(negative_limit=1500)).account(key)
    assert (spec.floor, spec.ceiling) == guards


def test_guards_mirror_for_debit_normal_classes() -> None:
    guards = Guards(floor=5, ceiling=30)
    assert guards.in_kernel_terms(credit_normal=True) == (5, 30)
    assert guards.in_kernel_terms(credit_normal=False) == (-30, -5)


@pytest.mark.parametrize(
    ("key", "bucket", "party"),
    [
        ("A:psp", 3, 0),
        ("I:avail/w#1", 3, 0),
        (f"I:avail/{P}#1", ids.bucket_of_party("t", PARTY), PARTY),
        (f"L:wallet/{P}", ids.bucket_of_party("t", PARTY), PARTY),
        (f"L:seller/{P}/reserve#d90", ids.bucket_of_party("t", PARTY), PARTY),
        (f"L:payout/{M}/{P}", ids.bucket_of_party("t", PARTY), PARTY),
        (f"L:order/{M}", 77, 0),
        (f"M:reversible/{M}#1/psp", 77, 0),
        (f"R:sales/{P}", 3, 0),
    ],
)
def test_owner_follows_from_the_key(key: str, bucket: int, party: int, chart: Chart) -> None:
    spec = chart.account(key)
    assert (spec.bucket, spec.party) == (bucket, party)
    assert ids.bucket_of_account(chart.account_id(key, 9)) == bucket
    assert chart.account(key) is spec


def test_classes_have_distinct_lasting_codes() -> None:
    assert {letter: item.code for letter, item in CLASSES.items()} == {
        "A": 1000, "L": 2000, "E": 3000, "R": 4000, "X": 5000, "M": 6000, "I": 7000, "C": 9000,
    }  # fmt: skip
    assert [credit_normal(item.code) for item in CLASSES.values()] == [
        item.credit_normal for item in CLASSES.values()
    ]
    assert credit_normal(7), "a code of somebody's own"
