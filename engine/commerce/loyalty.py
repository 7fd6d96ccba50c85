"""Loyalty: points are an asset, with money set aside for each at a fixed value, so that the liability is
always value × points outstanding. They are earned into a pending balance, vest into a lot, and are spent or
expire by lot.
"""

from typing import Final

from engine.kinds import MoveKind, Posting, Reading, Transition

_PENDING: Final = "L:pts/{payer}/pending"
_LOT: Final = "L:pts/{payer}#{lot}"
_ISSUED: Final = "M:pts.issued"
_POINTS: Final = "{points_asset}"
_OWN: Final[dict[str, int | str]] = {"points_asset": "PTS", "value": 1, "lot": "none"}

POINTS_EARNED: Final = MoveKind(
    name="points_earned",
    code=38,
    states=["draft", "pending", "vested", "clawed_back"],
    usual="earn",
    needs=["payer", "asset", "points", "lot"],
    inputs=_OWN | {"points": 0},
    counters={"left": 0},
    transitions=[
        Transition(
            name="earn",
            sources=["draft"],
            target="pending",
            postings=[
                Posting(debit=_ISSUED, credit=_PENDING, amount="points", asset=_POINTS),
                Posting(debit="X:loyalty", credit="L:loyalty", amount="points * value"),
            ],
            keeps={"left": "points"},
        ),
        Transition(
            name="clawback",
            sources=["pending"],
            target="pending",
            needs=["taken"],
            inputs={"taken": 0},
            limits={"fewer are left": "left - taken"},
            postings=[
                Posting(debit=_PENDING, credit=_ISSUED, amount="taken", asset=_POINTS),
                Posting(debit="L:loyalty", credit="X:loyalty", amount="taken * value"),
            ],
            keeps={"left": "left - taken"},
        ),
        Transition(
            name="vest",
            sources=["pending"],
            target="vested",
            postings=[Posting(debit=_PENDING, credit=_LOT, amount="left", asset=_POINTS)],
        ),
        Transition(
            name="cancel",
            sources=["pending"],
            target="clawed_back",
            postings=[
                Posting(debit=_PENDING, credit=_ISSUED, amount="left", asset=_POINTS),
                Posting(debit="L:loyalty", credit="X:loyalty", amount="left * value"),
            ],
            keeps={"left": "0"},
        ),
    ],
)

POINTS_REDEMPTION: Final = MoveKind(
    name="points_redemption",
    code=39,
    states=["draft", "redeemed"],
    usual="redeem",
    needs=["payer", "asset", "points", "lot", "order"],
    roles={"order": "move"},
    inputs=_OWN | {"points": 0},
    transitions=[
        Transition(
            name="redeem",
            sources=["draft"],
            target="redeemed",
            postings=[
                Posting(debit=_LOT, credit=_ISSUED, amount="points", asset=_POINTS),
                Posting(debit="L:loyalty", credit="L:order/{order}", amount="points * value"),
                Posting(
                    debit="M:reversible/{move}#1/points",
                    credit="M:reversible.contra",
                    amount="points * value",
                ),
            ],
        )
    ],
)

POINTS_EXPIRY: Final = MoveKind(
    name="points_expiry",
    code=40,
    states=["draft", "expired"],
    usual="expire",
    needs=["payer", "asset", "lot"],
    inputs=_OWN,
    transitions=[
        Transition(
            name="expire",
            sources=["draft"],
            target="expired",
            readings={"left": Reading(account=_LOT, asset=_POINTS)},
            postings=[
                Posting(debit="L:loyalty", credit="R:breakage", amount="left * value"),
                Posting(debit=_LOT, credit=_ISSUED, amount="left", asset=_POINTS),
            ],
        )
    ],
)
