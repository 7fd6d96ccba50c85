"""Payments by a provider: authorized, adjusted, captured in parts, voided; or charged at once.

An authorization is an outsider's promise, so it is counted in memo accounts. What a provider has been asked
to capture waits in `M:capt/{move}` until it answers; several captures may be on their way. A settlement is
what a provider pays out, less its fees.
"""

from typing import Final

from engine.kinds import MoveKind, Posting, Transition

_REVERSIBLE: Final = "M:reversible/{move}#1/{tender}"
_RELEASE: Final = [Posting(debit="M:auth.contra", credit="M:auth/{move}", amount="bal(credit)")]
_NOTHING_ON_ITS_WAY: Final = {"a capture is on its way; wait for its outcome": "0 - asked"}


def _asked(sources: list[str], target: str) -> Transition:
    return Transition(
        name="capture_req",
        sources=sources,
        target=target,
        postings=[Posting(debit="M:capt/{move}", credit="M:auth/{move}", amount="given")],
        needs=["amount"],
        keeps={"asked": "asked + given"},
    )


def _failed(sources: list[str], target: str) -> Transition:
    return Transition(
        name="capture_fail",
        sources=sources,
        target=target,
        postings=[Posting(debit="M:auth/{move}", credit="M:capt/{move}", amount="given")],
        needs=["amount"],
        limits={"more than was asked for": "asked - given"},
        keeps={"asked": "asked - given"},
    )


PAYMENT: Final = MoveKind(
    name="payment",
    code=22,
    states=[
        "created", "requested", "authorized", "capturing", "part_captured", "captured", "voided", "expired",
        "declined",
    ],
    needs=["payer", "asset", "amount", "order"],
    takes=["payee", "tender"],
    defaults={"tender": "psp"},
    roles={"order": "move"},
    counters={"asked": 0},
    transitions=[
        Transition(name="request", sources=["created"], target="requested"),
        Transition(name="decline", sources=["created", "requested"], target="declined", takes=["reason"]),
        Transition(
            name="authorize",
            sources=["created", "requested"],
            target="authorized",
            takes=["timeout"],
            postings=[Posting(debit="M:auth/{move}", credit="M:auth.contra", amount="amount")],
        ),
        Transition(
            name="adjust_up",
            sources=["authorized"],
            target="authorized",
            postings=[Posting(debit="M:auth/{move}", credit="M:auth.contra", amount="given")],
            needs=["amount"],
        ),
        Transition(
            name="adjust_down",
            sources=["authorized"],
            target="authorized",
            postings=[Posting(debit="M:auth.contra", credit="M:auth/{move}", amount="given")],
            needs=["amount"],
        ),
        _asked(["authorized", "capturing"], "capturing"),
        _asked(["part_captured"], "part_captured"),
        Transition(
            name="capture_ok",
            sources=["capturing", "part_captured", "authorized"],
            target="part_captured",
            postings=[
                Posting(debit="M:auth.contra", credit="M:capt/{move}", amount="given"),
                Posting(debit="A:{tender}", credit="L:order/{order}", amount="given"),
                Posting(debit=_REVERSIBLE, credit="M:reversible.contra", amount="given"),
            ],
            needs=["amount"],
            limits={"more than was asked for": "asked - given"},
            keeps={"asked": "asked - given"},
        ),
        _failed(["capturing", "authorized"], "authorized"),
        _failed(["part_captured"], "part_captured"),
        Transition(
            name="void",
            sources=["authorized"],
            target="voided",
            postings=_RELEASE,
            limits=_NOTHING_ON_ITS_WAY,
        ),
        Transition(
            name="void",
            sources=["part_captured"],
            target="captured",
            postings=_RELEASE,
            limits=_NOTHING_ON_ITS_WAY,
        ),
        Transition(
            name="expire",
            sources=["authorized", "capturing"],
            target="expired",
            postings=_RELEASE,
            limits=_NOTHING_ON_ITS_WAY,
            by_engine=True,
        ),
        Transition(
            name="expire",
            sources=["part_captured"],
            target="captured",
            postings=_RELEASE,
            limits=_NOTHING_ON_ITS_WAY,
            by_engine=True,
        ),
        Transition(
            name="charge",
            sources=["created", "requested"],
            target="captured",
            postings=[
                Posting(debit="A:{tender}", credit="L:order/{order}", amount="amount"),
                Posting(debit=_REVERSIBLE, credit="M:reversible.contra", amount="amount"),
            ],
        ),
    ],
)  # fmt: skip

SETTLEMENT: Final = MoveKind(
    name="settlement",
    code=23,
    states=["draft", "posted"],
    usual="post",
    needs=["asset", "amount", "fee"],
    takes=["payer", "payee", "tender"],
    defaults={"tender": "psp"},
    inputs={"fee": 0},
    transitions=[
        Transition(
            name="post",
            sources=["draft"],
            target="posted",
            postings=[
                Posting(debit="A:bank", credit="A:{tender}", amount="amount - fee"),
                Posting(debit="X:{tender}", credit="A:{tender}", amount="fee"),
            ],
        )
    ],
)
