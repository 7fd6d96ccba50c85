"""Orders with tax and shipping: a marketplace's, for a seller and less a commission, and a merchant's own
sales.

Every tender funds `L:order/{move}` and fulfilling drains it, so an order may be paid by its own capture, by
other Moves (payments, gift cards, store credit, points, subsidies), or by several of them. Amounts of lines
are net; tax is beside them, to the account of the line's jurisdiction.
"""

from typing import Final

from engine.kinds import LineRule, MoveKind, Posting, Reading, Transition

REVERSIBLE: Final = "M:reversible/{move}#{line}/{tender}"
REVERSIBLE_CONTRA: Final = "M:reversible.contra"
DUE: Final = "total + total.shipping + total.tax"

_CAPTURE: Final = [
    Posting(debit="A:{tender}", credit="L:order/{move}", amount=DUE),
    Posting(
        debit=REVERSIBLE,
        credit=REVERSIBLE_CONTRA,
        amount="line.amount + line.shipping + line.tax",
        each="line",
    ),
]
_TAX: Final = Posting(
    debit="L:order/{move}", credit="L:tax/{line.jurisdiction}", amount="line.tax", each="line"
)
_FUNDED: Final = {"funded": Reading(account="L:order/{move}")}
_PAID_BY_OTHERS: Final = {"more than it comes to was paid; refund the rest first": f"{DUE} - funded"}
_UNPAID: Final = {"it was paid for; refund that first": "0 - funded"}
_CANCEL: Final = [
    Posting(debit="L:order/{move}", credit="L:refund/{move}", amount="bal(debit)"),
    Posting(
        debit=REVERSIBLE_CONTRA,
        credit=REVERSIBLE,
        amount="line.amount + line.shipping + line.tax",
        each="line",
        at_most="credit",
    ),
]


_FUNDS_LEFT: Final = {"something of it is still to be fulfilled or refunded": "0 - funded"}


def _life(fulfil: list[Posting], clear: list[Posting]) -> list[Transition]:
    """What all such orders go through; `clear` is after the time in which goods may come back.

    What is fulfilled in parts has the part's lines in each request. A rest that never is goes back to the
    buyer by a refund, and then the order is finished.
    """
    ends = "fulfilled" if clear else "completed"
    earns = {"earned": "earned + total - total.commission"} if clear else {}
    return [
        Transition(name="place", sources=["draft"], target="placed"),
        Transition(name="review", sources=["placed"], target="held", takes=["reason"]),
        Transition(name="approve", sources=["held"], target="placed"),
        Transition(name="capture", sources=["placed"], target="paid", postings=_CAPTURE),
        Transition(name="fulfil", sources=["paid"], target=ends, postings=fulfil, keeps=earns),
        Transition(
            name="fulfil_part",
            sources=["placed", "paid", "part_fulfilled"],
            target="part_fulfilled",
            needs=["lines"],
            postings=fulfil,
            keeps=earns,
        ),
        Transition(
            name="finish",
            sources=["part_fulfilled"],
            target=ends,
            readings=_FUNDED,
            limits=_FUNDS_LEFT,
        ),
        Transition(
            name="fulfil",
            sources=["placed"],
            target=ends,
            postings=fulfil,
            readings=_FUNDED,
            limits=_PAID_BY_OTHERS,
            keeps=earns,
        ),
        *(
            [Transition(name="clear", sources=["fulfilled"], target="completed", postings=clear)]
            * bool(clear)
        ),
        Transition(
            name="cancel",
            sources=["draft", "placed", "held"],
            target="cancelled",
            readings=_FUNDED,
            limits=_UNPAID,
        ),
        Transition(name="cancel", sources=["paid"], target="cancelling", postings=_CANCEL),
        Transition(
            name="succeed",
            sources=["cancelling"],
            target="cancelled",
            postings=[Posting(debit="L:refund/{move}", credit="A:{tender}", amount="bal(debit)")],
        ),
    ]


MARKETPLACE_ORDER: Final = MoveKind(
    name="marketplace_order",
    code=20,
    states=[
        "draft",
        "placed",
        "held",
        "paid",
        "part_fulfilled",
        "fulfilled",
        "completed",
        "cancelling",
        "cancelled",
    ],
    needs=["payer", "payee", "asset", "lines"],
    takes=["tender"],
    defaults={"tender": "psp"},
    inputs={"carrier": "standard"},
    counters={"earned": 0},
    lines=LineRule(
        needs=["things", "quantities", "amounts"],
        columns={"commission": 0, "shipping": 0, "tax": 0, "jurisdiction": "none"},
    ),
    transitions=_life(
        fulfil=[
            Posting(
                debit="L:order/{move}",
                credit="L:seller/{payee}/pending",
                amount="total - total.commission",
            ),
            Posting(debit="L:order/{move}", credit="R:commission", amount="total.commission"),
            Posting(debit="L:order/{move}", credit="L:ship/{carrier}", amount="total.shipping"),
            _TAX,
        ],
        clear=[
            Posting(
                debit="L:seller/{payee}/pending",
                credit="L:seller/{payee}/available",
                amount="earned",
            )
        ],
    ),
)

SALE: Final = MoveKind(
    name="sale",
    code=21,
    states=["draft", "placed", "held", "paid", "part_fulfilled", "completed", "cancelling", "cancelled"],
    needs=["payer", "asset", "lines"],
    takes=["payee", "tender"],
    defaults={"tender": "psp"},
    lines=LineRule(
        needs=["things", "quantities", "amounts"],
        columns={"shipping": 0, "tax": 0, "jurisdiction": "none"},
    ),
    transitions=_life(
        fulfil=[
            Posting(debit="L:order/{move}", credit="{line.account}", amount="line.amount", each="line"),
            Posting(debit="L:order/{move}", credit="R:shipping", amount="total.shipping"),
            _TAX,
        ],
        clear=[],
    ),
)
