"""Store credit, and spending it, with an overdraft that is bounded and visible.

The balance never goes below 0. Who wants to spend more than there is needs an advance, a receivable with a
ceiling of its own (`A:overdraft/{party}`, 0 unless somebody grants a limit), which is repaid later.
"""

from typing import Final

from engine.kinds import MoveKind, Posting, Transition

_CREDIT: Final = "L:storecredit/{payer}"
_HELD: Final = "L:storecredit/{payer}/held#{order}"
_OVERDRAFT: Final = "A:overdraft/{payer}"

STORE_CREDIT: Final = MoveKind(
    name="store_credit",
    code=32,
    states=["draft", "granted"],
    usual="grant",
    needs=["payer", "asset", "amount"],
    takes=["reason"],
    transitions=[
        Transition(
            name="grant",
            sources=["draft"],
            target="granted",
            postings=[Posting(debit="X:goodwill", credit=_CREDIT, amount="amount")],
        )
    ],
)

STORE_CREDIT_SPEND: Final = MoveKind(
    name="store_credit_spend",
    code=33,
    states=["requested", "approval", "advanced", "held", "captured", "released", "repaid", "rejected"],
    needs=["payer", "asset", "amount", "order"],
    takes=["tender"],
    defaults={"tender": "psp"},
    roles={"order": "move"},
    counters={"lent": 0},
    transitions=[
        Transition(name="review", sources=["requested"], target="approval"),
        Transition(name="reject", sources=["requested", "approval"], target="rejected"),
        Transition(
            name="advance",
            sources=["requested", "approval", "advanced"],
            target="advanced",
            needs=["amount"],
            postings=[Posting(debit=_OVERDRAFT, credit=_CREDIT, amount="given")],
            keeps={"lent": "lent + given"},
        ),
        Transition(
            name="hold",
            sources=["requested", "advanced"],
            target="held",
            takes=["timeout"],
            postings=[Posting(debit=_CREDIT, credit=_HELD, amount="amount")],
        ),
        Transition(
            name="capture",
            sources=["held"],
            target="captured",
            postings=[
                Posting(debit=_HELD, credit="L:order/{order}", amount="amount"),
                Posting(
                    debit="M:reversible/{move}#1/storecredit", credit="M:reversible.contra", amount="amount"
                ),
            ],
        ),
        Transition(
            name="release",
            sources=["held"],
            target="released",
            postings=[Posting(debit=_HELD, credit=_CREDIT, amount="amount")],
        ),
        Transition(
            name="expire",
            sources=["held"],
            target="released",
            postings=[Posting(debit=_HELD, credit=_CREDIT, amount="amount")],
            by_engine=True,
        ),
        Transition(
            name="unadvance",
            sources=["released", "advanced"],
            target="repaid",
            postings=[Posting(debit=_CREDIT, credit=_OVERDRAFT, amount="lent", at_most="credit")],
        ),
        Transition(
            name="repay",
            sources=["captured"],
            target="repaid",
            postings=[Posting(debit="A:{tender}", credit=_OVERDRAFT, amount="lent", at_most="credit")],
        ),
    ],
)
