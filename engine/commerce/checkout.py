"""Checkout: everything that an order needs of others is held at once, or nothing: units of stock by lot, a
part of a gift card, credit, a promotion's budget and coupon. They may be at home on different shards. What is
held is let go when its time is up; completing it pays the order from all of them, ships, and books the sale.

Amounts that are 0 need nothing: an order without a gift card names none.
"""

from typing import Final

from engine.kinds import LineRule, MoveKind, Posting, Transition

_UNITS: Final = "I:reserved/{move}#{line.lot}"
_CARD_HELD: Final = "L:giftcard/{card}/held#{move}"
_BUDGET_HELD: Final = "M:budget.used/{move}"
_COUPON_HELD: Final = "I:coupon.held/{move}"
_USES: Final = "{use_asset}"
_COST: Final = "line.quantity * line.cost"


def _by_line(debit: str, credit: str) -> Posting:
    return Posting(debit=debit, credit=credit, amount="line.quantity", asset="row", each="line")


_LET_GO: Final = [
    _by_line("I:avail/{payee}#{line.lot}", _UNITS),
    Posting(debit=_CARD_HELD, credit="L:giftcard/{card}", amount="gift_card"),
    Posting(debit="M:credit.contra", credit="M:credit/{payer}", amount="credit"),
    Posting(debit="M:budget/{campaign}", credit=_BUDGET_HELD, amount="discount"),
    Posting(debit="I:coupon/{code}", credit=_COUPON_HELD, amount="coupons", asset=_USES),
]

CHECKOUT: Final = MoveKind(
    name="checkout",
    code=48,
    states=["draft", "held", "completed", "released", "expired"],
    needs=["payer", "payee", "asset", "lines"],
    takes=["tender"],
    defaults={"tender": "psp"},
    roles={"card": "move", "campaign": "move"},
    inputs={"gift_card": 0, "credit": 0, "discount": 0, "coupons": 0, "code": "none", "use_asset": "USE"},
    lines=LineRule(needs=["things", "quantities", "amounts"], columns={"lot": "none", "cost": 0}),
    transitions=[
        Transition(
            name="hold",
            sources=["draft"],
            target="held",
            takes=["timeout"],
            limits={"more is held than it comes to": "total - gift_card - credit - discount"},
            postings=[
                _by_line(_UNITS, "I:avail/{payee}#{line.lot}"),
                Posting(debit="L:giftcard/{card}", credit=_CARD_HELD, amount="gift_card"),
                Posting(debit="M:credit/{payer}", credit="M:credit.contra", amount="credit"),
                Posting(debit=_BUDGET_HELD, credit="M:budget/{campaign}", amount="discount"),
                Posting(debit=_COUPON_HELD, credit="I:coupon/{code}", amount="coupons", asset=_USES),
            ],
        ),
        Transition(name="release", sources=["held"], target="released", postings=_LET_GO),
        Transition(name="expire", sources=["held"], target="expired", postings=_LET_GO, by_engine=True),
        Transition(
            name="complete",
            sources=["held"],
            target="completed",
            postings=[
                Posting(debit=_CARD_HELD, credit="L:order/{move}", amount="gift_card"),
                Posting(debit="A:ar/{payer}#{move}", credit="L:order/{move}", amount="credit"),
                Posting(debit="X:promo/{campaign}", credit="L:order/{move}", amount="discount"),
                Posting(debit="M:budget.contra", credit=_BUDGET_HELD, amount="discount"),
                Posting(debit="I:coupon.used/{payer}", credit=_COUPON_HELD, amount="coupons", asset=_USES),
                Posting(
                    debit="A:{tender}",
                    credit="L:order/{move}",
                    amount="total - gift_card - credit - discount",
                ),
                Posting(debit="L:order/{move}", credit="{line.account}", amount="line.amount", each="line"),
                _by_line("I:owned/{payer}", _UNITS),
                Posting(debit="X:cogs", credit="A:inventory/{payee}#{line.lot}", amount=_COST, each="line"),
            ],
        ),
    ],
)
