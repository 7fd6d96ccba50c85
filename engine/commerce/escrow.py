"""Escrow: money for a whole project is set aside and released by milestones; a part stays in reserve for a
while. A contest freezes what is left, and an award divides it.

A seller's reserve is by lot, such as the day on which it is due (`L:seller/{seller}/reserve#2026-05-01`),
and comes out as a whole.
"""

from typing import Final

from engine.kinds import MoveKind, Posting, Reading, Transition

_RUNNING: Final = ["funded", "part_released"]

ESCROW: Final = MoveKind(
    name="escrow",
    code=26,
    states=[
        "draft", "funded", "part_released", "contested", "awarded", "cancelling", "released", "refunded",
    ],
    needs=["payer", "payee", "asset", "amount"],
    takes=["tender"],
    defaults={"tender": "psp"},
    transitions=[
        Transition(
            name="fund",
            sources=["draft"],
            target="funded",
            postings=[Posting(debit="A:{tender}", credit="L:order/{move}", amount="amount")],
        ),
        Transition(
            name="release",
            sources=_RUNNING,
            target="part_released",
            needs=["amount"],
            inputs={"commission": 0, "reserve": 0, "lot": "none"},
            postings=[
                Posting(debit="L:order/{move}", credit="R:commission", amount="commission"),
                Posting(debit="L:order/{move}", credit="L:seller/{payee}/reserve#{lot}", amount="reserve"),
                Posting(
                    debit="L:order/{move}",
                    credit="L:seller/{payee}/pending",
                    amount="given - commission - reserve",
                ),
            ],
        ),
        Transition(
            name="complete",
            sources=["part_released"],
            target="released",
            readings={"left": Reading(account="L:order/{move}")},
            limits={"not all of it is released": "0 - left"},
        ),
        Transition(
            name="contest",
            sources=_RUNNING,
            target="contested",
            postings=[Posting(debit="L:order/{move}", credit="L:order/{move}/frozen", amount="bal(debit)")],
        ),
        Transition(
            name="award",
            sources=["contested"],
            target="awarded",
            needs=["amount"],
            inputs={"commission": 0},
            postings=[
                Posting(
                    debit="L:order/{move}/frozen",
                    credit="L:seller/{payee}/pending",
                    amount="given - commission",
                ),
                Posting(debit="L:order/{move}/frozen", credit="R:commission", amount="commission"),
                Posting(debit="L:order/{move}/frozen", credit="L:refund/{move}", amount="bal(debit)"),
            ],
        ),
        Transition(
            name="cancel",
            sources=_RUNNING,
            target="cancelling",
            postings=[Posting(debit="L:order/{move}", credit="L:refund/{move}", amount="bal(debit)")],
        ),
        Transition(
            name="succeed",
            sources=["awarded", "cancelling"],
            target="refunded",
            postings=[Posting(debit="L:refund/{move}", credit="A:{tender}", amount="bal(debit)")],
        ),
    ],
)  # fmt: skip

RESERVE_RELEASE: Final = MoveKind(
    name="reserve_release",
    code=27,
    states=["draft", "posted"],
    usual="post",
    needs=["payer", "asset", "lot"],
    inputs={"lot": "none"},
    transitions=[
        Transition(
            name="post",
            sources=["draft"],
            target="posted",
            postings=[
                Posting(
                    debit="L:seller/{payer}/reserve#{lot}",
                    credit="L:seller/{payer}/available",
                    amount="bal(debit)",
                )
            ],
        )
    ],
)
