"""Commissions of affiliates and representatives: accrued with the sale, approved when it can't come back any
more, and taken back if it does. What is available to an affiliate may fall below zero as far as its account's
floor allows; the next commission then makes up for it.

The affiliate is the Move's payer, because it is that Party's balances which the Move is about.
"""

from typing import Final

from engine.kinds import MoveKind, Posting, Transition

_PENDING: Final = "L:aff/{payer}/pending"
_AVAILABLE: Final = "L:aff/{payer}/available"

AFFILIATE_COMMISSION: Final = MoveKind(
    name="affiliate_commission",
    code=41,
    states=["tracked", "accrued", "held", "approved", "clawed_back", "closed", "rejected", "written_off"],
    needs=["payer", "asset", "amount"],
    takes=["payee", "reverses"],
    counters={"left": 0},
    transitions=[
        Transition(
            name="accrue",
            sources=["tracked"],
            target="accrued",
            postings=[Posting(debit="X:affiliate", credit=_PENDING, amount="amount")],
            keeps={"left": "amount"},
        ),
        Transition(
            name="reduce",
            sources=["accrued"],
            target="accrued",
            needs=["amount"],
            limits={"less than that is left": "left - given"},
            postings=[Posting(debit=_PENDING, credit="X:affiliate", amount="given")],
            keeps={"left": "left - given"},
        ),
        Transition(name="review", sources=["accrued"], target="held", takes=["reason"]),
        Transition(
            name="reject",
            sources=["accrued", "held"],
            target="rejected",
            postings=[Posting(debit=_PENDING, credit="X:affiliate", amount="left")],
            keeps={"left": "0"},
        ),
        Transition(
            name="approve",
            sources=["accrued", "held"],
            target="approved",
            postings=[Posting(debit=_PENDING, credit=_AVAILABLE, amount="left")],
        ),
        Transition(
            name="clawback",
            sources=["approved", "clawed_back"],
            target="clawed_back",
            needs=["amount"],
            limits={"less than that is left": "left - given"},
            postings=[Posting(debit=_AVAILABLE, credit="X:affiliate", amount="given")],
            keeps={"left": "left - given"},
        ),
        Transition(
            name="write_off",
            sources=["clawed_back"],
            target="written_off",
            postings=[Posting(debit="X:baddebt", credit=_AVAILABLE, amount="bal(credit)")],
        ),
        Transition(name="close", sources=["approved", "clawed_back"], target="closed"),
    ],
)
