"""Subscriptions: paid ahead, recognised day by day, changed in between, lapsed or refunded.

A period is `days` long and costs `price`; `done` days of it are recognised. After day d the share of all days
up to d has been recognised, whatever days lay between, so any sequence ends at the price exactly. A change
takes what is left of the old plan as a tender for the new one. Each period pays by an account of its own,
`L:order/{move}#{cycle}`, which is at zero at once.
"""

from typing import Final

from engine.kinds import MoveKind, Posting, Reading, Transition

_CYCLE: Final = "L:order/{move}#{cycle}"
_DEFERRED: Final = "L:deferred/{move}"
_UNUSED: Final = "price - price * done // days"
_NEEDED: Final = "new_price - new_price * done // days"
_BEGIN: Final = {"price": "new_price", "days": "new_days", "done": "0", "cycle": "cycle + 1"}
_OVER: Final = {"the period that runs is not recognised to its end": "0 - deferred"}


def _paid(plan: str) -> list[Posting]:
    return [
        Posting(debit="A:{tender}", credit=_CYCLE, amount="new_price + tax"),
        Posting(debit=_CYCLE, credit="L:tax/{jurisdiction}", amount="tax"),
        Posting(debit=_CYCLE, credit=_DEFERRED, amount="new_price"),
        Posting(debit="I:ent/{payer}", credit=f"I:issued/{plan}", amount="1", asset=plan),
    ]


_LAPSE: Final = [Posting(debit="I:issued/{plan}", credit="I:ent/{payer}", amount="1", asset="{plan}")]

SUBSCRIPTION: Final = MoveKind(
    name="subscription",
    code=36,
    states=["draft", "trialing", "active", "past_due", "paused", "over", "lapsed", "refunding", "cancelled"],
    needs=["payer", "asset"],
    takes=["payee", "tender"],
    defaults={"tender": "psp"},
    inputs={"jurisdiction": "none"},
    counters={"plan": "none", "price": 0, "days": 1, "done": 0, "cycle": 1},
    transitions=[
        Transition(name="start_trial", sources=["draft"], target="trialing"),
        Transition(
            name="subscribe",
            sources=["draft", "trialing"],
            target="active",
            needs=["new_plan", "new_price", "new_days"],
            inputs={"new_plan": "none", "new_price": 0, "new_days": 1, "tax": 0},
            postings=_paid("{new_plan}"),
            keeps=_BEGIN | {"plan": "{new_plan}"},
        ),
        Transition(
            name="renew",
            sources=["over", "past_due", "lapsed"],
            target="active",
            needs=["new_price", "new_days"],
            inputs={"new_price": 0, "new_days": 1, "tax": 0},
            readings={"deferred": Reading(account=_DEFERRED)},
            limits=_OVER,
            postings=_paid("{plan}"),
            keeps=_BEGIN,
        ),
        Transition(
            name="recognise",
            sources=["active"],
            target="active",
            needs=["day"],
            inputs={"day": 0},
            limits={
                "the period has fewer days": "days - day",
                "that day is recognised already": "day - done",
            },
            postings=[
                Posting(
                    debit=_DEFERRED,
                    credit="R:subscription",
                    amount="price * day // days - price * done // days",
                )
            ],
            keeps={"done": "day"},
        ),
        Transition(
            name="change",
            sources=["active"],
            target="active",
            needs=["new_plan", "new_price"],
            inputs={"new_plan": "none", "new_price": 0, "tax": 0},
            postings=[
                Posting(debit=_DEFERRED, credit=_CYCLE, amount=_UNUSED),
                Posting(debit="A:{tender}", credit=_CYCLE, amount=f"max({_NEEDED} - ({_UNUSED}) + tax, 0)"),
                Posting(debit=_CYCLE, credit="L:tax/{jurisdiction}", amount="tax"),
                Posting(debit=_CYCLE, credit=_DEFERRED, amount=_NEEDED),
                Posting(
                    debit=_CYCLE,
                    credit="L:storecredit/{payer}",
                    amount=f"max({_UNUSED} - ({_NEEDED}) - tax, 0)",
                ),
                *_LAPSE,
                Posting(debit="I:ent/{payer}", credit="I:issued/{new_plan}", amount="1", asset="{new_plan}"),
            ],
            keeps={"plan": "{new_plan}", "price": "new_price", "cycle": "cycle + 1"},
        ),
        Transition(
            name="recognise_end",
            sources=["active"],
            target="over",
            postings=[Posting(debit=_DEFERRED, credit="R:subscription", amount="bal(debit)")],
            keeps={"done": "days"},
        ),
        Transition(name="fail_payment", sources=["over"], target="past_due"),
        Transition(name="pause", sources=["over"], target="paused"),
        Transition(name="resume", sources=["paused"], target="over"),
        Transition(name="lapse", sources=["over", "past_due"], target="lapsed", postings=_LAPSE),
        Transition(
            name="cancel_refund",
            sources=["active"],
            target="refunding",
            postings=[Posting(debit=_DEFERRED, credit="L:refund/{move}", amount="bal(debit)")],
        ),
        Transition(
            name="succeed",
            sources=["refunding"],
            target="cancelled",
            postings=[
                Posting(debit="L:refund/{move}", credit="A:{tender}", amount="bal(debit)"),
                *_LAPSE,
            ],
        ),
        Transition(name="cancel", sources=["draft", "trialing", "lapsed"], target="cancelled"),
    ],
)
