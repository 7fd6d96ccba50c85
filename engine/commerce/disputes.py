"""Disputes: a buyer's bank takes a payment back. What is the seller's is held until it is won or lost; lost,
each bears a share, and the platform what is left. A seller who has too little for that can't be held to it:
the dispute is then opened unsecured, and its share is the platform's loss.

Like a refund, a dispute consumes what may be reversed, and gives it back when it is won.
"""

from typing import Final

from engine.commerce.refunds import REVERSED
from engine.kinds import LineRule, MoveKind, Posting, Transition

_OPEN: Final = ["needs_response", "under_review"]

_TAKE: Final = Posting(
    debit="M:reversible.contra", credit=REVERSED, amount="line.amount", each="line", when="line.known"
)
_GIVE_BACK: Final = Posting(
    debit=REVERSED, credit="M:reversible.contra", amount="line.amount", each="line", when="line.known"
)
_SHARES: Final = [
    Posting(debit="R:commission", credit="A:dispute/{move}", amount="total.commission"),
    Posting(debit="L:tax/{line.jurisdiction}", credit="A:dispute/{move}", amount="line.tax", each="line"),
]

DISPUTE: Final = MoveKind(
    name="dispute",
    code=25,
    states=[
        "received",
        "inquiry",
        "inquiry_closed",
        "needs_response",
        "under_review",
        "unsecured",
        "won",
        "lost",
    ],
    needs=["payer", "payee", "asset", "lines"],
    takes=["tender", "reason", "reverses"],
    defaults={"tender": "psp"},
    inputs={"fee": 0},
    lines=LineRule(
        needs=["amounts"],
        takes=["things", "quantities", "orders", "order_lines"],
        columns={"seller": 0, "commission": 0, "tax": 0, "jurisdiction": "none"},
    ),
    transitions=[
        Transition(name="inquire", sources=["received"], target="inquiry"),
        Transition(name="close_inquiry", sources=["inquiry"], target="inquiry_closed"),
        Transition(
            name="open",
            sources=["received", "inquiry"],
            target="needs_response",
            postings=[
                Posting(debit="A:dispute/{move}", credit="A:{tender}", amount="total"),
                Posting(debit="X:dispute.fee", credit="A:{tender}", amount="fee"),
                Posting(
                    debit="L:seller/{payee}/available",
                    credit="L:seller/{payee}/held#{move}",
                    amount="total.seller",
                ),
                _TAKE,
            ],
        ),
        Transition(
            name="open_unsecured",
            sources=["received", "inquiry"],
            target="unsecured",
            postings=[
                Posting(debit="A:dispute/{move}", credit="A:{tender}", amount="total"),
                Posting(debit="X:dispute.fee", credit="A:{tender}", amount="fee"),
                _TAKE,
            ],
        ),
        Transition(
            name="won",
            sources=["unsecured"],
            target="won",
            postings=[
                Posting(debit="A:{tender}", credit="A:dispute/{move}", amount="total"),
                _GIVE_BACK,
            ],
        ),
        Transition(
            name="lost",
            sources=["unsecured"],
            target="lost",
            postings=[
                *_SHARES,
                Posting(debit="X:dispute.loss", credit="A:dispute/{move}", amount="bal(credit)"),
            ],
        ),
        Transition(name="respond", sources=["needs_response"], target="under_review"),
        Transition(
            name="won",
            sources=_OPEN,
            target="won",
            postings=[
                Posting(debit="A:{tender}", credit="A:dispute/{move}", amount="total"),
                Posting(
                    debit="L:seller/{payee}/held#{move}",
                    credit="L:seller/{payee}/available",
                    amount="total.seller",
                ),
                _GIVE_BACK,
            ],
        ),
        Transition(
            name="lost",
            sources=_OPEN,
            target="lost",
            postings=[
                Posting(
                    debit="L:seller/{payee}/held#{move}", credit="A:dispute/{move}", amount="total.seller"
                ),
                *_SHARES,
                Posting(debit="X:dispute.loss", credit="A:dispute/{move}", amount="bal(credit)"),
                Posting(debit="L:seller/{payee}/available", credit="R:fee/dispute", amount="fee"),
            ],
        ),
    ],
)
