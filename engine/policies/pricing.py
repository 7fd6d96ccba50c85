"""Prices: a table of rows on five levels, the most specific of which wins.

From the least to the most specific: `list` is for everybody, `segment` for Parties of a segment, `contract`
for those who have one, `tier` from a quantity on, `promo` for a time. A row may have the conditions of lower
levels too: a tier of a contract's prices is a `tier` row with a contract. On one level a row in the order's
currency wins over one that has to be converted, a higher quantity over a lower, a lower price over a higher,
and an earlier row over a later one.

A row holds from `valid_from` until `valid_until`, so a table has its whole history and an order is priced as
of its time. A price is for `per` units; a line's amount is rounded once, not unit by unit.
"""

from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from engine.policies.amounts import Amount, Quantity, Rate, Rounding, ratio, rounded
from engine.policies.facts import Code, OptionalCode, OrderLine, Period, PolicyError, QuoteRequest
from engine.policies.trace import PassedOver, Priced

Level = Literal["list", "segment", "contract", "tier", "promo"]
LEVELS: Final[tuple[Level, ...]] = ("list", "segment", "contract", "tier", "promo")
ROWS_MAX: Final = 2_000

_EVER: Final = datetime.min.replace(tzinfo=UTC)


class PriceRow(Period, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a Thing costs under some conditions."""

    level: Level
    thing: Code
    asset: Code
    price: Amount
    per: Quantity = 1
    segment: OptionalCode = ""
    contract: OptionalCode = ""
    from_quantity: Quantity = 1

    def __post_init__(self) -> None:
        needed = {
            "segment": self.segment,
            "contract": self.contract,
            "tier": self.from_quantity > 1,
            "promo": self.valid_until,
        }
        names = {"tier": "from_quantity above 1", "promo": "valid_until"}
        if not needed.get(self.level, True):
            raise ValueError(f"a row of level {self.level} needs {names.get(self.level, self.level)}")


class ExchangeRate(Period, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How many of `to` one of `source` is worth, both in major units, for rows in another currency."""

    source: Code
    to: Code
    rate: Rate


class PricePolicy(
    msgspec.Struct,
    frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True,
    tag_field="policy", tag="prices",
):  # fmt: skip
    """A price table. `counting` says which quantity reaches a tier: the line's, or that of all lines of the
    order with the same Thing."""

    rows: Annotated[list[PriceRow], Meta(min_length=1, max_length=ROWS_MAX)]
    counting: Literal["line", "order"] = "line"
    exchange: Annotated[list[ExchangeRate], Meta(max_length=ROWS_MAX)] = []
    rounding: Rounding = "half_up"


class _Candidate(NamedTuple):
    row: PriceRow
    number: int
    rate: ExchangeRate | None
    unit: Fraction  # price of one unit in the order's currency, exact

    @property
    def rank(self) -> tuple[int, bool, int, Fraction, int]:
        """The greatest wins."""
        row = self.row
        return LEVELS.index(row.level), self.rate is None, row.from_quantity, -self.unit, -self.number


def price_lines(policy: PricePolicy, request: QuoteRequest) -> list[Priced]:
    """The price of each line. Raises PolicyError for one that has none."""
    counted: dict[str, int] = {}
    for line in request.lines:
        counted[line.thing] = counted.get(line.thing, 0) + line.quantity
    return [
        _priced(
            policy,
            request,
            number,
            line,
            line.quantity if policy.counting == "line" else counted[line.thing],
        )
        for number, line in enumerate(request.lines, 1)
    ]


def _priced(policy: PricePolicy, request: QuoteRequest, number: int, line: OrderLine, counted: int) -> Priced:
    candidates = sorted(
        (
            candidate
            for index, row in enumerate(policy.rows)
            if _applies(row, request, line, counted)
            and (candidate := _candidate(policy, request, row, index)) is not None
        ),
        key=lambda candidate: candidate.rank,
        reverse=True,
    )
    if not candidates:
        raise PolicyError(
            f"lines[{number - 1}].thing",
            f"{line.thing} has no price in {request.asset} as of {request.as_of.isoformat()}",
        )
    best = candidates[0]
    return Priced(
        line=number,
        thing=line.thing,
        quantity=line.quantity,
        row=best.number,
        level=best.row.level,
        price=best.row.price,
        per=best.row.per,
        asset=best.row.asset,
        rate=best.rate.rate if best.rate is not None else "",
        segment=best.row.segment,
        contract=best.row.contract,
        from_quantity=best.row.from_quantity,
        counted=counted,
        amount=rounded(best.unit * line.quantity, policy.rounding),
        over=[
            PassedOver(level=other.row.level, price=other.row.price, per=other.row.per, asset=other.row.asset)
            for other in candidates[1:]
        ],
    )


def _applies(row: PriceRow, request: QuoteRequest, line: OrderLine, counted: int) -> bool:
    standing = request.standing
    return (
        row.thing == line.thing
        and row.from_quantity <= counted
        and row.covers(request.as_of)
        and (not row.segment or row.segment in standing.segments)
        and (not row.contract or row.contract in standing.contracts)
    )


def _candidate(policy: PricePolicy, request: QuoteRequest, row: PriceRow, number: int) -> _Candidate | None:
    unit = Fraction(row.price, row.per)
    if row.asset == request.asset:
        return _Candidate(row, number, None, unit)
    rate = _exchange(policy, row.asset, request.asset, request.as_of)
    if rate is None:
        return None
    decimals = _exponent(request, request.asset) - _exponent(request, row.asset)
    scale = Fraction(10**decimals) if decimals >= 0 else Fraction(1, 10**-decimals)
    return _Candidate(row, number, rate, unit * ratio(rate.rate) * scale)


def _exchange(policy: PricePolicy, source: str, to: str, as_of: datetime) -> ExchangeRate | None:
    """The rate that began last of those that hold; of equal ones the first."""
    held = [
        rate for rate in policy.exchange if rate.source == source and rate.to == to and rate.covers(as_of)
    ]
    return max(held, key=lambda rate: rate.valid_from or _EVER, default=None)


def _exponent(request: QuoteRequest, asset: str) -> int:
    found = request.exponents.get(asset)
    if found is None:
        raise PolicyError(f"exponents.{asset}", "missing; prices are to be converted from or to it")
    return found
