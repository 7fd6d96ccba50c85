"""What policies judge: the lines of an order, who buys, where it goes, and when."""

import re
from datetime import date, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from engine.policies.amounts import Amount, Quantity

LINES_MAX: Final = 500
"""Lines of one order that can be priced: their trace has to fit on the Move."""

Moment = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset.")]
Code = Annotated[str, Meta(min_length=1, max_length=64)]
OptionalCode = Annotated[str, Meta(max_length=64)]
Attribute = bool | int | str | list[str] | None

_POSITION: Final = re.compile(r" - at `\$\.?(.*)`$")


class PolicyError(ValueError):
    """A policy that does not hold together, or that can't price an order. Says where, and what is wrong."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where = where
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}" if self.where else self.reason


def fault_of(exc: msgspec.ValidationError, within: str = "") -> PolicyError:
    """What a decoder found, with the place as people write it."""
    text = str(exc)
    found = _POSITION.search(text)
    place = found[1] if found else ""
    reason = text[: found.start()] if found else text
    where = ".".join(part for part in (within, place) if part).replace(".[", "[")
    return PolicyError(where, reason[:1].lower() + reason[1:])


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where something goes, or for where a rule is: with nothing given, for everywhere."""

    country: Annotated[str, Meta(max_length=64, examples=["DE"])] = ""
    region: Annotated[str, Meta(max_length=64, examples=["BY"])] = ""

    def __post_init__(self) -> None:
        if self.region and not self.country:
            raise ValueError("region: a region needs its country")

    def has(self, other: "Place") -> bool:
        """Whether that place is in this one."""
        return self.country in {"", other.country} and self.region in {"", other.region}

    @property
    def precision(self) -> int:
        """The more, the narrower."""
        return bool(self.country) + bool(self.region)

    def __str__(self) -> str:
        return "-".join(part for part in (self.country, self.region) if part) or "anywhere"


class Period(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """From a moment on, until another one, which is not in it any more."""

    valid_from: Moment | None = None
    valid_until: Moment | None = None

    def covers(self, moment: datetime) -> bool:
        """Whether it holds at a moment."""
        begun = self.valid_from is None or self.valid_from <= moment
        return begun and (self.valid_until is None or moment < self.valid_until)


class Certificate(Period, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Says that a Party is exempt from a tax: from one stage, or from all of them, in a place."""

    number: Code
    stages: list[Code] = []  # empty: all
    place: Place = Place()


class Licence(Period, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something that a Party may do, in a place."""

    name: Code
    number: OptionalCode = ""
    place: Place = Place()


class Standing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is known of a Party that policies look at; the profile has it as `standing`."""

    segments: list[Code] = []
    contracts: list[Code] = []
    born: date | None = None
    certificates: list[Certificate] = []
    licences: list[Licence] = []

    def age(self, on: date) -> int | None:
        """Whole years on a day, None if nobody knows."""
        if self.born is None:
            return None
        had_birthday = (on.month, on.day) >= (self.born.month, self.born.day)
        return on.year - self.born.year - (not had_birthday)


class OrderLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line to be priced, with what its Thing's attributes say."""

    thing: Code
    quantity: Quantity
    attrs: dict[str, Attribute] = {}

    @property
    def groups(self) -> list[str]:
        """What its Thing counts as, from the attribute `groups`. Raises PolicyError."""
        groups = self.attrs.get("groups", [])
        if not isinstance(groups, list):
            raise PolicyError(f"{self.thing}.attrs.groups", "expected a list of texts")
        return groups

    @property
    def tax_class(self) -> str:
        """How its Thing is taxed, from the attribute `tax_class`. Raises PolicyError."""
        found = self.attrs.get("tax_class", "standard")
        if not isinstance(found, str):
            raise PolicyError(f"{self.thing}.attrs.tax_class", f"expected text, not {found!r}")
        return found


class Selector(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which lines: of one of these Things, in one of these groups, with all of these attributes. With
    nothing given, all."""

    things: list[Code] = []
    groups: list[Code] = []
    attrs: dict[str, bool | int | str] = {}

    def takes(self, line: OrderLine) -> bool:
        """Whether it means this line."""
        return (
            (not self.things or line.thing in self.things)
            and (not self.groups or not set(self.groups).isdisjoint(line.groups))
            and all(_same(line.attrs.get(name), value) for name, value in self.attrs.items())
        )


class QuoteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that a quote depends on besides the policies."""

    asset: Code
    as_of: Moment
    lines: Annotated[list[OrderLine], Meta(min_length=1, max_length=LINES_MAX)]
    ship_to: Place = Place()
    standing: Standing = Standing()
    trust: Annotated[int, Meta(ge=0, le=100)] | None = None
    coupons: Annotated[list[Code], Meta(max_length=32)] = []
    budgets: dict[str, Amount] = {}  # what is left of each, by name
    exponents: dict[str, Annotated[int, Meta(ge=0, le=18)]] = {}  # decimals of the currencies in use


def _same(found: Attribute, wanted: bool | int | str) -> bool:
    return type(found) is type(wanted) and found == wanted
