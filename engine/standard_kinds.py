"""The Move kinds that come with Tessera, as data (see `engine.kinds` for the language, and for adding your
own).

- `transfer`: from payer to payee, at once or by a hold that is posted or voided later.
- `journal`: any legs, or one-sided entries, that balance for each asset.
- `order`: money for lines of Things. Paying funds `L:order/{move}` and notes per line what may still be
  reversed; fulfilling drains it. It is back at zero in every terminal state.
- `refund`: takes back lines of orders, or lines that reverse nothing known (bought before history starts).
- `adjustment`: signed lines for a reason: units written off, debts written off or revived, fees, discounts.
- `opening`: balances brought forward, against `L:opening.contra`.
- `reversal`: the legs of another Move, backwards. Its id follows from that Move's, so there is at most one.

The kinds of commerce, from marketplace orders to stock, are in `engine.commerce`.
"""

from typing import Final

from engine.commerce import COMMERCE_KINDS
from engine.kinds import LineRule, MoveKind, Posting, Transition

_REVERSIBLE: Final = "M:reversible/{move}#{line}/{tender}"
_REVERSED: Final = "M:reversible/{line.order}#{line.order_line}/{tender}"
_REVERSIBLE_CONTRA: Final = "M:reversible.contra"

TRANSFER: Final = MoveKind(
    name="transfer",
    code=1,
    states=["proposed", "pending", "posted", "voided", "expired"],
    usual="post",
    needs=["payer", "payee", "asset", "amount"],
    inputs={"debit": "L:wallet/{payer}", "credit": "L:wallet/{payee}"},
    transitions=[
        Transition(
            name="post",
            sources=["proposed"],
            target="posted",
            postings=[Posting(debit="{debit}", credit="{credit}", amount="amount")],
        ),
        Transition(
            name="hold",
            sources=["proposed"],
            target="pending",
            postings=[Posting(debit="{debit}", credit="{credit}", amount="amount", mode="hold")],
            takes=["timeout"],
        ),
        Transition(
            name="post",
            sources=["pending"],
            target="posted",
            postings=[Posting(mode="post")],
            takes=["amount"],
        ),
        Transition(name="void", sources=["pending"], target="voided", postings=[Posting(mode="void")]),
        Transition(name="expire", sources=["pending"], target="expired", by_engine=True),
    ],
)

JOURNAL: Final = MoveKind(
    name="journal",
    code=2,
    states=["draft", "posted"],
    usual="post",
    needs=["legs|entries"],
    takes=["payer", "payee"],
    transitions=[
        Transition(
            name="post",
            sources=["draft"],
            target="posted",
            postings=[
                Posting(
                    debit="{leg.debit}", credit="{leg.credit}", amount="leg.amount", asset="row", each="leg"
                )
            ],
        )
    ],
)

ORDER: Final = MoveKind(
    name="order",
    code=3,
    states=["draft", "placed", "paid", "fulfilled", "cancelled"],
    needs=["payer", "asset", "lines"],
    takes=["payee", "tender"],
    defaults={"tender": "psp"},
    lines=LineRule(needs=["things", "quantities", "amounts"]),
    transitions=[
        Transition(name="place", sources=["draft"], target="placed"),
        Transition(
            name="capture",
            sources=["placed"],
            target="paid",
            postings=[
                Posting(debit="A:{tender}", credit="L:order/{move}", amount="total"),
                Posting(debit=_REVERSIBLE, credit=_REVERSIBLE_CONTRA, amount="line.amount", each="line"),
            ],
        ),
        Transition(
            name="fulfil",
            sources=["paid"],
            target="fulfilled",
            postings=[
                Posting(debit="L:order/{move}", credit="{line.account}", amount="line.amount", each="line"),
                Posting(
                    debit="I:owned/{payer}",
                    credit="I:world",
                    amount="line.quantity",
                    asset="row",
                    each="line",
                    when="line.tracked",
                ),
            ],
        ),
        Transition(name="cancel", sources=["draft", "placed"], target="cancelled"),
        Transition(
            name="cancel",
            sources=["paid"],
            target="cancelled",
            postings=[
                Posting(debit="L:order/{move}", credit="L:refund/{move}", amount="bal(debit)"),
                Posting(debit="L:refund/{move}", credit="A:{tender}", amount="bal(debit)"),
                Posting(
                    debit=_REVERSIBLE_CONTRA,
                    credit=_REVERSIBLE,
                    amount="line.amount",
                    each="line",
                    at_most="credit",
                ),
            ],
        ),
    ],
)

_CONSUME: Final = Posting(
    debit=_REVERSIBLE_CONTRA, credit=_REVERSED, amount="line.amount", each="line", when="line.known"
)

REFUND: Final = MoveKind(
    name="refund",
    code=4,
    states=["requested", "granted", "succeeded", "credited", "rejected"],
    needs=["payer", "asset", "lines"],
    takes=["payee", "tender", "reason", "reverses"],
    defaults={"tender": "psp"},
    lines=LineRule(needs=["things", "quantities", "amounts"], takes=["orders", "order_lines"]),
    transitions=[
        Transition(
            name="grant",
            sources=["requested"],
            target="granted",
            checks=["orders_ended"],
            postings=[
                Posting(debit="{line.account}", credit="L:refund/{move}", amount="line.amount", each="line"),
                _CONSUME,
                Posting(
                    debit="I:world",
                    credit="I:owned/{payer}",
                    amount="line.quantity",
                    asset="row",
                    each="line",
                    when="line.returned",
                ),
                Posting(
                    debit="I:world",
                    credit="I:returned.contra",
                    amount="line.quantity",
                    asset="row",
                    each="line",
                    when="line.unknown",
                ),
            ],
        ),
        Transition(
            name="grant_unfulfilled",
            sources=["requested"],
            target="granted",
            postings=[
                Posting(
                    debit="L:order/{line.order}", credit="L:refund/{move}", amount="line.amount", each="line"
                ),
                _CONSUME,
            ],
        ),
        Transition(
            name="succeed",
            sources=["granted"],
            target="succeeded",
            postings=[Posting(debit="L:refund/{move}", credit="A:{tender}", amount="bal(debit)")],
        ),
        Transition(
            name="to_credit",
            sources=["granted"],
            target="credited",
            postings=[Posting(debit="L:refund/{move}", credit="L:storecredit/{payer}", amount="bal(debit)")],
        ),
        Transition(name="reject", sources=["requested"], target="rejected"),
    ],
)

ADJUSTMENT: Final = MoveKind(
    name="adjustment",
    code=5,
    states=["draft", "posted"],
    usual="post",
    needs=["payer", "lines"],
    takes=["payee", "asset", "reason", "reverses"],
    inputs={"account": "A:ar/{payer}"},
    lines=LineRule(
        needs=[],
        takes=["things", "quantities", "amounts", "reasons"],
        signed=True,
        contra={
            "bad_debt": "X:baddebt",
            "correction": "X:adjustment",
            "discount": "R:discount",
            "fee": "R:fee",
            "write_off": "X:shrink",
        },
    ),
    transitions=[
        Transition(
            name="post",
            sources=["draft"],
            target="posted",
            postings=[
                Posting(
                    debit="{account}", credit="{line.contra}", amount="line.amount", each="line", signed=True
                ),
                Posting(
                    debit="I:world",
                    credit="I:shrink.contra",
                    amount="line.quantity",
                    asset="row",
                    each="line",
                    when="line.tracked",
                    signed=True,
                ),
            ],
        )
    ],
)

OPENING: Final = MoveKind(
    name="opening",
    code=6,
    states=["draft", "posted"],
    usual="post",
    needs=["entries"],
    takes=["payer"],
    transitions=[
        Transition(
            name="post",
            sources=["draft"],
            target="posted",
            postings=[
                Posting(
                    debit="{entry.account}",
                    credit="L:opening.contra",
                    amount="entry.amount",
                    asset="row",
                    each="entry",
                    signed=True,
                )
            ],
        )
    ],
)

REVERSAL: Final = MoveKind(
    name="reversal",
    code=7,
    states=["draft", "posted"],
    usual="post",
    needs=["reverses", "legs"],
    takes=["payer", "payee", "reason"],
    transitions=[
        Transition(
            name="post",
            sources=["draft"],
            target="posted",
            checks=["reverses_once"],
            postings=[
                Posting(
                    debit="{leg.debit}", credit="{leg.credit}", amount="leg.amount", asset="row", each="leg"
                )
            ],
        )
    ],
)

STANDARD_KINDS: Final = (
    TRANSFER,
    JOURNAL,
    ORDER,
    REFUND,
    ADJUSTMENT,
    OPENING,
    REVERSAL,
    *COMMERCE_KINDS,
)
