"""Promotions: a campaign has a budget and coupons that may be used so many times. Using one holds both for an
order; then the platform's part is a tender like any other, so that the seller is paid in full, or the hold is
let go.
"""

from typing import Final

from engine.kinds import MoveKind, Posting, Transition

_USES: Final = "{use_asset}"
_HELD: Final = "M:budget.used/{order}"
_COUPON_HELD: Final = "I:coupon.held/{order}"
_OWN: Final[dict[str, int | str]] = {"code": "none", "use_asset": "USE"}

_LET_GO: Final = [
    Posting(debit="M:budget/{campaign}", credit=_HELD, amount="amount"),
    Posting(debit="I:coupon/{code}", credit=_COUPON_HELD, amount="1", asset=_USES),
]

CAMPAIGN: Final = MoveKind(
    name="campaign",
    code=46,
    states=["draft", "funded", "closed"],
    needs=["payer", "asset", "amount", "code", "uses"],
    inputs=_OWN | {"uses": 0},
    transitions=[
        Transition(
            name="fund_budget",
            sources=["draft"],
            target="funded",
            postings=[
                Posting(debit="M:budget/{move}", credit="M:budget.contra", amount="amount"),
                Posting(debit="I:coupon/{code}", credit="I:issued/{code}", amount="uses", asset=_USES),
            ],
        ),
        Transition(
            name="close",
            sources=["funded"],
            target="closed",
            postings=[Posting(debit="M:budget.contra", credit="M:budget/{move}", amount="bal(credit)")],
        ),
    ],
)

PROMOTION_USE: Final = MoveKind(
    name="promotion_use",
    code=47,
    states=["requested", "held", "consumed", "released", "expired"],
    needs=["payer", "asset", "amount", "campaign", "order", "code"],
    roles={"campaign": "move", "order": "move"},
    inputs=_OWN,
    transitions=[
        Transition(
            name="hold",
            sources=["requested"],
            target="held",
            takes=["timeout"],
            postings=[
                Posting(debit=_HELD, credit="M:budget/{campaign}", amount="amount"),
                Posting(debit=_COUPON_HELD, credit="I:coupon/{code}", amount="1", asset=_USES),
            ],
        ),
        Transition(
            name="subsidy",
            sources=["held"],
            target="consumed",
            postings=[
                Posting(debit="X:promo/{campaign}", credit="L:order/{order}", amount="amount"),
                Posting(debit="I:coupon.used/{payer}", credit=_COUPON_HELD, amount="1", asset=_USES),
                Posting(debit="M:budget.contra", credit=_HELD, amount="amount"),
            ],
        ),
        Transition(name="release", sources=["held"], target="released", postings=_LET_GO),
        Transition(name="expire", sources=["held"], target="expired", postings=_LET_GO, by_engine=True),
    ],
)
