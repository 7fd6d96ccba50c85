"""Gift cards: a card is a Move, its balance a liability; spending it is another, which holds, captures in
parts and lets go of the rest. The card's balance may not go below 0, so two who spend it at once can't
overdraw it. What comes back to a card after it has expired can be taken as breakage again.
"""

from typing import Final

from engine.kinds import MoveKind, Posting, Transition

_CARD: Final = "L:giftcard/{move}"
_HELD: Final = "L:giftcard/{card}/held#{order}"
_LET_GO: Final = [Posting(debit=_HELD, credit="L:giftcard/{card}", amount="left")]

GIFT_CARD: Final = MoveKind(
    name="gift_card",
    code=30,
    states=["inactive", "active", "frozen", "expired"],
    needs=["payer", "asset", "amount"],
    takes=["tender"],
    defaults={"tender": "psp"},
    transitions=[
        Transition(
            name="issue",
            sources=["inactive"],
            target="active",
            postings=[Posting(debit="A:{tender}", credit=_CARD, amount="amount")],
        ),
        Transition(
            name="freeze",
            sources=["active"],
            target="frozen",
            postings=[Posting(debit=_CARD, credit=_CARD + "/frozen", amount="bal(debit)")],
        ),
        Transition(
            name="unfreeze",
            sources=["frozen"],
            target="active",
            postings=[Posting(debit=_CARD + "/frozen", credit=_CARD, amount="bal(debit)")],
        ),
        Transition(
            name="breakage",
            sources=["active", "expired"],
            target="expired",
            postings=[Posting(debit=_CARD, credit="R:breakage", amount="bal(debit)")],
        ),
    ],
)

GIFT_CARD_REDEMPTION: Final = MoveKind(
    name="gift_card_redemption",
    code=31,
    states=["requested", "held", "part_captured", "captured", "released", "expired"],
    needs=["payer", "asset", "amount", "card", "order"],
    takes=["tender"],
    defaults={"tender": "giftcard"},
    roles={"card": "move", "order": "move"},
    counters={"left": 0},
    transitions=[
        Transition(
            name="hold",
            sources=["requested"],
            target="held",
            takes=["timeout"],
            postings=[Posting(debit="L:giftcard/{card}", credit=_HELD, amount="amount")],
            keeps={"left": "amount"},
        ),
        Transition(
            name="capture",
            sources=["held", "part_captured"],
            target="part_captured",
            needs=["amount"],
            postings=[
                Posting(debit=_HELD, credit="L:order/{order}", amount="given"),
                Posting(debit="M:reversible/{move}#1/{tender}", credit="M:reversible.contra", amount="given"),
            ],
            limits={"less than that is held": "left - given"},
            keeps={"left": "left - given"},
        ),
        Transition(name="release", sources=["held"], target="released", postings=_LET_GO),
        Transition(name="release", sources=["part_captured"], target="captured", postings=_LET_GO),
        Transition(name="expire", sources=["held"], target="expired", postings=_LET_GO, by_engine=True),
        Transition(
            name="expire", sources=["part_captured"], target="captured", postings=_LET_GO, by_engine=True
        ),
    ],
)
