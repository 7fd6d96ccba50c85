"""Buying on account: a buyer's exposure is held against a credit limit when the order comes, invoiced when it
is fulfilled, and goes down as receipts are applied.

`M:credit/{party}` is open orders and receivables together; its ceiling is the limit, 0 unless somebody grants
more. A receivable is a lot for each invoice, `A:ar/{party}#{move}`, which is what aging goes by. What an
invoice still comes to is kept on its Move.
"""

from typing import Final

from engine.commerce.orders import DUE
from engine.kinds import LineRule, MoveKind, Posting, Transition

_INVOICE: Final = "A:ar/{payer}#{move}"
_EXPOSURE: Final = "M:credit/{payer}"
_CONTRA: Final = "M:credit.contra"
_OPEN: Final = ["invoiced", "overdue", "contested"]
_ENOUGH_DUE: Final = {"less than that is due": "due - given"}


def _less(debit: str, name: str) -> list[Transition]:
    """The invoice comes to less by what the request says, and so does the exposure."""
    postings = [
        Posting(debit=debit, credit=_INVOICE, amount="given"),
        Posting(debit=_CONTRA, credit=_EXPOSURE, amount="given"),
    ]
    return [
        Transition(
            name=name,
            sources=[state],
            target=state,
            needs=["amount"],
            postings=postings,
            limits=_ENOUGH_DUE,
            keeps={"due": "due - given"},
        )
        for state in _OPEN
    ]


NET_TERMS_ORDER: Final = MoveKind(
    name="net_terms_order",
    code=34,
    states=["draft", "credit_held", "invoiced", "overdue", "contested", "paid", "written_off", "cancelled"],
    needs=["payer", "asset", "lines"],
    takes=["payee"],
    lines=LineRule(
        needs=["things", "quantities", "amounts"],
        columns={"shipping": 0, "tax": 0, "jurisdiction": "none"},
    ),
    counters={"due": 0},
    transitions=[
        Transition(
            name="credit_hold",
            sources=["draft"],
            target="credit_held",
            takes=["timeout"],
            postings=[Posting(debit=_EXPOSURE, credit=_CONTRA, amount=DUE)],
        ),
        Transition(
            name="cancel_hold",
            sources=["credit_held"],
            target="cancelled",
            postings=[Posting(debit=_CONTRA, credit=_EXPOSURE, amount=DUE)],
        ),
        Transition(
            name="expire",
            sources=["credit_held"],
            target="cancelled",
            postings=[Posting(debit=_CONTRA, credit=_EXPOSURE, amount=DUE)],
            by_engine=True,
        ),
        Transition(
            name="invoice",
            sources=["credit_held"],
            target="invoiced",
            postings=[
                Posting(debit=_INVOICE, credit="L:order/{move}", amount=DUE),
                Posting(debit="L:order/{move}", credit="{line.account}", amount="line.amount", each="line"),
                Posting(debit="L:order/{move}", credit="R:shipping", amount="total.shipping"),
                Posting(
                    debit="L:order/{move}",
                    credit="L:tax/{line.jurisdiction}",
                    amount="line.tax",
                    each="line",
                ),
            ],
            keeps={"due": DUE},
        ),
        *_less("L:unapplied/{payer}", "apply"),
        *_less("R:discount/terms", "early_disc"),
        Transition(
            name="late_fee",
            sources=["invoiced", "overdue"],
            target="overdue",
            needs=["amount"],
            postings=[
                Posting(debit=_INVOICE, credit="R:fee/late", amount="given"),
                Posting(debit=_EXPOSURE, credit=_CONTRA, amount="given"),
            ],
            keeps={"due": "due + given"},
        ),
        Transition(name="mark_overdue", sources=["invoiced"], target="overdue"),
        Transition(name="contest", sources=["invoiced", "overdue"], target="contested"),
        Transition(name="settle_contest", sources=["contested"], target="overdue"),
        Transition(
            name="close",
            sources=_OPEN,
            target="paid",
            limits={"not all of it is paid": "0 - due"},
        ),
        Transition(
            name="write_off",
            sources=_OPEN,
            target="written_off",
            postings=[
                Posting(debit=_CONTRA, credit=_EXPOSURE, amount="due"),
                Posting(debit="X:baddebt", credit=_INVOICE, amount="due"),
            ],
            keeps={"due": "0"},
        ),
    ],
)

RECEIPT: Final = MoveKind(
    name="receipt",
    code=35,
    states=["draft", "received"],
    usual="receive",
    needs=["payer", "asset", "amount"],
    transitions=[
        Transition(
            name="receive",
            sources=["draft"],
            target="received",
            postings=[Posting(debit="A:bank", credit="L:unapplied/{payer}", amount="amount")],
        )
    ],
)
