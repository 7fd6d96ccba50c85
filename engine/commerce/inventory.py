"""Stock by lots: units and what they cost move together, lot by lot. Lines name the lot that they take from
and what a unit of it cost; no lot can go below zero, so stock can't be sold twice.

A step that takes `lines` may be for other lines than the Move began with, such as the lots by which a
backorder was filled.
"""

from typing import Final

from engine.kinds import LineRule, MoveKind, Posting, Transition

_BY_LOT: Final = LineRule(needs=["things", "quantities"], columns={"lot": "none", "cost": 0})
_COST: Final = "line.quantity * line.cost"


def _units(debit: str, credit: str, merge: bool = False) -> Posting:
    return Posting(debit=debit, credit=credit, amount="line.quantity", asset="row", each="line", merge=merge)


GOODS_RECEIPT: Final = MoveKind(
    name="goods_receipt",
    code=42,
    states=["expected", "received"],
    usual="receive",
    needs=["payer", "payee", "asset", "lines"],
    lines=_BY_LOT,
    transitions=[
        Transition(
            name="receive",
            sources=["expected"],
            target="received",
            postings=[
                _units("I:avail/{payer}#{line.lot}", "I:world"),
                Posting(
                    debit="A:inventory/{payer}#{line.lot}",
                    credit="L:grni/{payee}",
                    amount=_COST,
                    each="line",
                ),
            ],
        )
    ],
)

_LET_GO: Final = [_units("I:avail/{payee}#{line.lot}", "I:reserved/{move}#{line.lot}")]

STOCK_ORDER: Final = MoveKind(
    name="stock_order",
    code=44,
    states=["draft", "backordered", "reserved", "allocated", "shipped", "delivered", "released", "expired"],
    needs=["payer", "payee", "asset", "lines"],
    lines=_BY_LOT,
    transitions=[
        Transition(
            name="reserve",
            sources=["draft"],
            target="reserved",
            takes=["timeout"],
            postings=[_units("I:reserved/{move}#{line.lot}", "I:avail/{payee}#{line.lot}")],
        ),
        Transition(name="release", sources=["reserved"], target="released", postings=_LET_GO),
        Transition(name="expire", sources=["reserved"], target="expired", postings=_LET_GO, by_engine=True),
        Transition(
            name="backorder",
            sources=["draft"],
            target="backordered",
            postings=[_units("I:reserved/{move}#bo", "I:backlog/{payee}")],
        ),
        Transition(
            name="fill_bo",
            sources=["backordered"],
            target="reserved",
            needs=["lines"],
            postings=[
                _units("I:reserved/{move}#{line.lot}", "I:avail/{payee}#{line.lot}"),
                _units("I:backlog/{payee}", "I:reserved/{move}#bo", merge=True),
            ],
        ),
        Transition(
            name="cancel",
            sources=["backordered"],
            target="released",
            postings=[_units("I:backlog/{payee}", "I:reserved/{move}#bo")],
        ),
        Transition(
            name="allocate",
            sources=["reserved"],
            target="allocated",
            takes=["lines"],
            postings=[_units("I:alloc/{move}#{line.lot}", "I:reserved/{move}#{line.lot}")],
        ),
        Transition(
            name="ship",
            sources=["allocated"],
            target="shipped",
            takes=["lines"],
            postings=[
                _units("I:transit/{move}", "I:alloc/{move}#{line.lot}"),
                Posting(debit="X:cogs", credit="A:inventory/{payee}#{line.lot}", amount=_COST, each="line"),
            ],
        ),
        Transition(
            name="deliver",
            sources=["shipped"],
            target="delivered",
            takes=["lines"],
            postings=[_units("I:owned/{payer}", "I:transit/{move}", merge=True)],
        ),
    ],
)

STOCK_RETURN: Final = MoveKind(
    name="stock_return",
    code=45,
    states=["requested", "received", "restocked", "scrapped", "rejected"],
    needs=["payer", "payee", "asset", "lines"],
    takes=["reason", "reverses"],
    lines=_BY_LOT,
    transitions=[
        Transition(name="reject", sources=["requested"], target="rejected"),
        Transition(
            name="return_recv",
            sources=["requested"],
            target="received",
            postings=[_units("I:quarantine/{payee}#{line.lot}", "I:owned/{payer}")],
        ),
        Transition(
            name="restock",
            sources=["received"],
            target="restocked",
            postings=[
                _units("I:avail/{payee}#{line.lot}", "I:quarantine/{payee}#{line.lot}"),
                Posting(debit="A:inventory/{payee}#{line.lot}", credit="X:cogs", amount=_COST, each="line"),
            ],
        ),
        Transition(
            name="scrap",
            sources=["received"],
            target="scrapped",
            postings=[_units("I:scrap/{payee}", "I:quarantine/{payee}#{line.lot}")],
        ),
    ],
)
