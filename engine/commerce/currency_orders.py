"""Orders in another currency: the buyer pays one, the seller gets another. Rates are ratios of whole numbers,
locked on the Move: the middle one, and the one that the seller's side is converted at. Each currency balances
by itself through `E:fx`, whose open balance is the exposure.
"""

from typing import Final

from engine.kinds import MoveKind, Posting, Transition

_MIDDLE: Final = "amount * mid_numerator // mid_denominator"
_CONVERTED: Final = "amount * rate_numerator // rate_denominator"

CURRENCY_ORDER: Final = MoveKind(
    name="currency_order",
    code=37,
    states=["quoted", "paid", "converted", "split", "settled", "completed", "lapsed"],
    needs=[
        "payer", "payee", "asset", "amount", "into", "mid_numerator", "mid_denominator", "rate_numerator",
        "rate_denominator",
    ],
    takes=["tender"],
    defaults={"tender": "psp"},
    inputs={
        "into": "none",
        "mid_numerator": 0,
        "mid_denominator": 1,
        "rate_numerator": 0,
        "rate_denominator": 1,
        "commission": 0,
    },
    counters={"received": 0},
    transitions=[
        Transition(name="lapse", sources=["quoted"], target="lapsed"),
        Transition(
            name="capture",
            sources=["quoted"],
            target="paid",
            postings=[Posting(debit="A:{tender}", credit="L:order/{move}", amount="amount")],
        ),
        Transition(
            name="convert",
            sources=["paid"],
            target="converted",
            postings=[
                Posting(debit="L:order/{move}", credit="E:fx", amount="amount"),
                Posting(debit="E:fx", credit="L:order/{move}", amount=_CONVERTED, asset="{into}"),
                Posting(
                    debit="E:fx", credit="R:fx.spread", amount=f"{_MIDDLE} - {_CONVERTED}", asset="{into}"
                ),
            ],
        ),
        Transition(
            name="split",
            sources=["converted"],
            target="split",
            postings=[
                Posting(
                    debit="L:order/{move}",
                    credit="L:seller/{payee}/pending",
                    amount=f"{_CONVERTED} - commission",
                    asset="{into}",
                ),
                Posting(debit="L:order/{move}", credit="R:commission", amount="commission", asset="{into}"),
            ],
        ),
        Transition(
            name="settle",
            sources=["split"],
            target="settled",
            needs=["proceeds"],
            inputs={"proceeds": 0},
            postings=[
                Posting(debit="E:fx", credit="A:{tender}", amount="amount"),
                Posting(debit="A:bank", credit="E:fx", amount="proceeds", asset="{into}"),
            ],
            keeps={"received": "proceeds"},
        ),
        Transition(
            name="realise",
            sources=["settled"],
            target="completed",
            postings=[
                Posting(
                    debit="X:fx", credit="E:fx", amount=f"{_MIDDLE} - received", asset="{into}", signed=True
                )
            ],
        ),
    ],
)  # fmt: skip
