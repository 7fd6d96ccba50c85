"""Refunds of marketplace orders: granted out of the order while it is unfulfilled, else from whoever was
paid; then paid out by the provider, as store credit, or back on a gift card.

A line that names what it reverses (an order and its line, or another Move that paid and 1) consumes what
may be reversed there, whatever else is refunded or disputed at the same time.
"""

from typing import Final

from engine.kinds import LineRule, MoveKind, Posting, Transition

REVERSED: Final = "M:reversible/{line.order}#{line.order_line}/{tender}"
CONSUME: Final = Posting(
    debit="M:reversible.contra",
    credit=REVERSED,
    amount="line.amount + line.shipping + line.tax",
    each="line",
    when="line.known",
)
_GRANTED: Final = ["granted", "processing"]

MARKETPLACE_REFUND: Final = MoveKind(
    name="marketplace_refund",
    code=24,
    states=[
        "requested", "held", "granted", "processing", "failed", "succeeded", "credited", "rejected",
    ],
    needs=["payer", "payee", "asset", "lines"],
    takes=["tender", "reason", "reverses"],
    defaults={"tender": "psp"},
    roles={"order": "move", "card": "move"},
    lines=LineRule(
        needs=["amounts"],
        takes=["things", "quantities", "orders", "order_lines"],
        columns={"commission": 0, "shipping": 0, "tax": 0, "jurisdiction": "none"},
    ),
    transitions=[
        Transition(name="review", sources=["requested"], target="held"),
        Transition(name="reject", sources=["requested", "held"], target="rejected", takes=["reason"]),
        Transition(
            name="grant_pre",
            sources=["requested", "held"],
            target="granted",
            postings=[
                Posting(
                    debit="L:order/{order}",
                    credit="L:refund/{move}",
                    amount="total + total.shipping + total.tax",
                ),
                CONSUME,
            ],
        ),
        Transition(
            name="grant_post",
            sources=["requested", "held"],
            target="granted",
            postings=[
                Posting(
                    debit="L:seller/{payee}/available",
                    credit="L:refund/{move}",
                    amount="total - total.commission",
                ),
                Posting(debit="R:commission", credit="L:refund/{move}", amount="total.commission"),
                Posting(
                    debit="L:tax/{line.jurisdiction}",
                    credit="L:refund/{move}",
                    amount="line.tax",
                    each="line",
                ),
                Posting(debit="X:goodwill", credit="L:refund/{move}", amount="total.shipping"),
                CONSUME,
            ],
        ),
        Transition(name="submit", sources=["granted", "failed"], target="processing"),
        Transition(name="fail", sources=["processing"], target="failed", takes=["reason"]),
        Transition(
            name="succeed",
            sources=_GRANTED,
            target="succeeded",
            postings=[Posting(debit="L:refund/{move}", credit="A:{tender}", amount="bal(debit)")],
        ),
        Transition(
            name="to_credit",
            sources=["granted", "failed"],
            target="credited",
            postings=[Posting(debit="L:refund/{move}", credit="L:storecredit/{payer}", amount="bal(debit)")],
        ),
        Transition(
            name="to_gift_card",
            sources=["granted", "failed"],
            target="credited",
            postings=[Posting(debit="L:refund/{move}", credit="L:giftcard/{card}", amount="bal(debit)")],
        ),
    ],
)  # fmt: skip
