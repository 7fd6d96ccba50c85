"""Payouts: a batch, and in it one Move for each payee, so that one that fails never fails the others.

The payee of a payout is its Move's payer, because it is that Party's balance which is paid out. How much that
is the payout finds out when it is built, and keeps.
"""

from typing import Final

from engine.kinds import MoveKind, Posting, Reading, Transition

PAYOUT_BATCH: Final = MoveKind(
    name="payout_batch",
    code=28,
    states=["scheduled", "building", "held", "submitted", "closed", "cancelled"],
    takes=["payer"],
    transitions=[
        Transition(name="build", sources=["scheduled"], target="building"),
        Transition(name="review", sources=["building"], target="held"),
        Transition(name="submit", sources=["building", "held"], target="submitted"),
        Transition(name="close", sources=["submitted"], target="closed"),
        Transition(name="cancel", sources=["scheduled", "building", "held"], target="cancelled"),
    ],
)

_IN_BATCH: Final = "L:payout/{batch}/{payer}"


def _payout(name: str, code: int, account: str) -> MoveKind:
    """All that is in an account, less a fee, in a batch to the bank."""
    return MoveKind(
        name=name,
        code=code,
        states=["created", "built", "submitted", "paid", "closed", "returned", "recalled"],
        needs=["payer", "asset", "batch"],
        roles={"batch": "move"},
        inputs={"fee": 0, "minimum": 0},
        counters={"sent": 0},
        transitions=[
            Transition(
                name="build",
                sources=["created"],
                target="built",
                readings={"available": Reading(account=account)},
                limits={"there is less than the least that is paid out": "available - fee - max(minimum, 1)"},
                postings=[
                    Posting(debit=account, credit="R:fee/payout", amount="fee"),
                    Posting(debit=account, credit=_IN_BATCH, amount="available - fee"),
                ],
                keeps={"sent": "available - fee"},
            ),
            Transition(
                name="submit",
                sources=["built"],
                target="submitted",
                postings=[Posting(debit=_IN_BATCH, credit="A:bank/outbound", amount="sent")],
            ),
            Transition(
                name="recall",
                sources=["built"],
                target="recalled",
                postings=[Posting(debit=_IN_BATCH, credit=account, amount="sent")],
            ),
            Transition(
                name="paid",
                sources=["submitted"],
                target="paid",
                postings=[Posting(debit="A:bank/outbound", credit="A:bank", amount="sent")],
            ),
            Transition(
                name="returned",
                sources=["submitted"],
                target="returned",
                postings=[Posting(debit="A:bank/outbound", credit=account, amount="sent")],
            ),
            Transition(
                name="returned_late",
                sources=["paid"],
                target="returned",
                postings=[Posting(debit="A:bank", credit=account, amount="sent")],
            ),
            Transition(name="close", sources=["paid"], target="closed"),
        ],
    )


PAYOUT: Final = _payout("payout", 29, "L:seller/{payer}/available")
AFFILIATE_PAYOUT: Final = _payout("affiliate_payout", 43, "L:aff/{payer}/available")
