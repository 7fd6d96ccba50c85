"""The steps by which a quote came about, one struct each; `engine.policies.sentences` reads them out.

They are for programs, and are kept on the Move with the lines. Lines count from 1; amounts are in minor units
of the order's currency unless a step names another.
"""

from datetime import date, datetime
from typing import Literal

import msgspec

from engine.policies.amounts import Rounding


class PassedOver(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A price that held too, and gave way to a more specific one."""

    level: str
    price: int
    asset: str
    per: int = 1


class Priced(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="step", tag="priced"):
    """What a line costs before anything is taken off, by which row of the table (from 0)."""

    line: int
    thing: str
    quantity: int
    row: int
    level: str
    price: int
    asset: str
    amount: int
    per: int = 1
    rate: str = ""  # into the order's currency; "" = it is the row's
    segment: str = ""
    contract: str = ""
    from_quantity: int = 1
    counted: int = 0  # the quantity that tiers looked at
    over: list[PassedOver] = []


class Discounted(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="step", tag="discounted"
):
    """What a promotion took off, and off which lines: a part of the order that is returned gives its own
    share back."""

    promotion: str
    amount: int
    shares: dict[int, int]  # by line
    name: str = ""
    coupon: str = ""
    budget: str = ""
    funded_by: Literal["seller", "platform"] = "seller"
    reduces_tax_base: bool = True
    sets: int = 0  # how often, of a promotion that counts units


class NotDiscounted(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="step", tag="not_discounted"
):
    """Why a promotion took nothing off."""

    promotion: str
    why: Literal[
        "not_now",
        "coupon_missing",
        "segment_missing",
        "amount_too_small",
        "quantity_too_small",
        "nothing_to_discount",
        "budget_too_small",
        "excluded",
        "not_the_best",
    ]
    needed: int = 0
    found: int = 0
    by: str = ""  # the promotion that excludes it


class Charged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="step", tag="charged"):
    """A fee. Those that the buyer pays are lines of the order; a seller's are not."""

    fee: str
    thing: str
    payer: Literal["buyer", "seller"]
    amount: int
    line: int = 0  # of the order; 0 = the buyer does not pay it
    name: str = ""
    base: int = 0
    rate: str = ""
    units: int = 0
    limited_to: int | None = None  # the least or the most that it may be, if that decided
    taxable: bool = False
    tax_class: str = "standard"
    refundable: bool = False


class NotCharged(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="step", tag="not_charged"
):
    """Why there is no such fee."""

    fee: str
    why: Literal["elsewhere", "nothing_it_is_for", "order_large_enough", "order_too_small"]
    threshold: int = 0
    found: int = 0


class Taxed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="step", tag="taxed"):
    """One tax on one line."""

    stage: str
    line: int
    thing: str  # that the tax is written down as
    amount: int
    base: int = 0
    rate: str = ""
    units: int = 0  # of a tax by the unit: quantity times what is measured
    per_unit: str = ""  # and its rate in minor units
    measure: str = ""
    on_taxes: dict[str, int] = {}  # taxes of earlier stages that are in the base
    inclusive: bool = False
    where: str = ""
    tax_class: str = "standard"
    rounding: Rounding = "half_up"
    allocated: bool = False  # its stage was rounded once for the order, and this is the line's part


class Exempted(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="step", tag="exempted"
):
    """A tax that is not due, because of a certificate."""

    stage: str
    line: int
    certificate: str
    valid_until: datetime | None = None


class NotExempted(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="step", tag="not_exempted"
):
    """A certificate for a tax that is due all the same."""

    stage: str
    line: int
    certificate: str
    why: Literal["expired", "not_yet_valid", "not_exemptable"]
    moment: datetime | None = None


class Judged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="step", tag="judged"):
    """A rule of compliance that is about a line, and whether it is kept."""

    rule: str
    line: int
    thing: str
    verdict: Literal["allow", "hold", "deny"]
    what: Literal["banned", "age", "trust", "licence"]
    reason: str = ""
    needed: str = ""
    found: str = ""
    on: date | None = None
    where: str = ""


Step = Priced | Discounted | NotDiscounted | Charged | NotCharged | Taxed | Exempted | NotExempted | Judged
