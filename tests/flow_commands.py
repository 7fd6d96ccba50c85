"""The money flows as commands to an engine: for each step, what a platform sends.

A `Run` is one way through a flow, with Parties, Moves and lots of its own, so that many can share an engine.
What several runs can't help but share (the platform's accounts) they measure as differences.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from actors.runtime import AccountDraft, Engine
from engine.chart import CLASSES
from engine.commands import CreateParty, CreateThing, Lines, MoveAnswer, MoveCommand
from engine.ids import bucket_of_id, bucket_of_party, format_id
from tests.contract.flow_book import MONEY, Book, Flow, Leg, Way, named
from tests.fixtures_engine import Ids

THINGS: Final = {
    "EUR": "asset", "USD": "asset", "PTS": "asset", "USE": "asset", "SKU": "product", "GOODS": "product",
    "PLAN1": "subscription", "PLAN2": "subscription",
}  # fmt: skip
_PARTIES: Final = ("buyer", "seller", "merchant", "vendor", "affiliate")
_PAYERS: Final = {"campaign": "merchant", "batch": ""}
"""Whose Moves they are, if not the buyer's."""
_SAME: Final[Mapping[str, Mapping[str, str]]] = {
    "F1": {"refund": "order"},
    "F5": {"refund": "order"},
    "F9": {"invoice": "order"},
    "F10": {"refund": "subscription"},
    "F14": {"shipment": "order"},
}
"""By flow: names that stand for the same Move there."""
_MOVES: Final = ("order", "payment", "dispute", "batch", "card", "subscription", "campaign")


async def catalogue(engine: Engine, new_id: Ids) -> None:
    """The Things that the flows are about."""
    things = [CreateThing(id=new_id(), kind=kind, code=code) for code, kind in THINGS.items()]
    things += [
        CreateThing(id=new_id(), kind="product", code=f"OWN-{name}", attrs={"account": f"R:sales#{name}"})
        for name in "AB"
    ]
    answers = await engine.create_things(things)
    assert all(answer.accepted for answer in answers), answers


class Run:
    """One way through a flow."""

    def __init__(
        self, engine: Engine, flows: Mapping[str, Flow], way: Way, new_id: Ids, factor: int = 1
    ) -> None:
        self.engine = engine
        self.way = way
        self.names: dict[str, str] = {}
        self.expected: list[tuple[str, list[Leg]]] = []  # what each step has to post
        self._new_id = new_id
        self._flows = flows
        self._figures: dict[str, int] = {}  # of the step that is taken
        self.begun: set[int] = set()  # Moves that are there
        self._steps: dict[tuple[int, int], int] = {}  # by Move and `seq`: the number of the step
        self._ids: dict[str, int] = {}
        same = _SAME.get(way.flow, {})
        for name in _PARTIES:
            self._name(name, new_id())
        for name in (*_MOVES, *({"refund", "invoice", "shipment"} - same.keys())):
            self._name(name, self._move_id(name))
        for name, other in same.items():
            self._name(name, self._ids[other])
        own = format(new_id() & 0xFFFFFFFF, "x")
        self.names |= {
            "carrier": f"carrier-{own}", "jurisdiction": f"j-{own}", "code": f"code-{own}", "reserve": "d90",
            "one": "1", "two": "2", "backorder": "bo", "year": "y26", "plan_one": "PLAN1",
            "plan_two": "PLAN2", "first": f"{self.names['subscription']}#1",
            "second": f"{self.names['subscription']}#2",
        }  # fmt: skip
        self.book = Book(flows, way.flow, named(self.names), factor)

    def id(self, name: str) -> int:
        """The id behind a name."""
        return self._ids[name]

    async def begin(self) -> None:
        """Register the Parties and grant the limits."""
        parties = [CreateParty(id=self._ids[name], kind="org") for name in _PARTIES]
        answers = await self.engine.create_parties(parties)
        assert all(answer.accepted for answer in answers), answers
        drafts = [self._limited(key, bounds) for key, bounds in self.book.limits.items()]
        if drafts:
            await self.engine.open_accounts(drafts)

    async def take(self, step: str) -> list[MoveAnswer]:
        """Send what a step is; the answers, of which only the last may be a refusal. Nothing is sent if the
        step is about a Move that is not there yet."""
        flow, _, name = step.rpartition(".")
        self._figures = self.book.figures(flow or self.way.flow)
        try:
            commands = STEPS[flow or self.way.flow, name](self)
        except KeyError:
            return []
        answers: list[MoveAnswer] = []
        for command in commands:
            [answer] = await self.engine.submit([command])
            answers.append(answer)
            if not answer.accepted:
                return answers
            self.begun.add(answer.move)
            self._steps[answer.move, answer.seq] = len(self.expected)
        self.expected.append((step, [leg for leg in self.book.post(step) if leg.amount]))
        return answers

    async def posted(self) -> dict[int, list[Leg]]:
        """The legs that were posted, by the number of their step, without those that note what may be
        reversed, and without amounts of 0. The projection must have caught up."""
        legs: dict[int, list[Leg]] = {}
        for move in self.begun:
            for line in await self.engine.queries.journal(move):
                leg = Leg(
                    line.debit_key,
                    line.credit_key,
                    line.leg.amount,
                    self.engine.asset_code(line.leg.asset),
                )
                if leg.amount and "M:reversible" not in leg.debit + leg.credit:
                    legs.setdefault(self._steps[move, line.seq], []).append(leg)
        return legs

    async def balance(self, key: str) -> int:
        """What is on an account's normal side, 0 if there is none; the key may name an asset after @."""
        account, _, asset = key.partition("@")
        handle = self.engine.account(account, asset or MONEY)
        (found,) = await self.engine.read_accounts([handle.id])
        return 0 if found is None else (await handle.balance()).posted

    # Commands

    def move(
        self, name: str, step: str, more: dict[str, Any] | None = None, **creation: Any
    ) -> list[MoveCommand]:
        """Take a Move a step further, after creating it if it is new; `more` belongs to the step."""
        commands = []
        id = self._ids[name]
        if id not in self.begun:
            commands.append(MoveCommand(id=id, **creation))
        if step:
            request = self._new_id(bucket=bucket_of_id(id))
            commands.append(MoveCommand(id=request, move=id, transition=step, **(more or {})))
        return commands

    def fresh(self, name: str, step: str = "", **creation: Any) -> list[MoveCommand]:
        """The same with a new Move under that name."""
        self._name(name, self._move_id(name, creation.get("payer", 0)))
        return self.move(name, step, **creation)

    def has_taken(self, step: str) -> bool:
        """Whether a step was accepted before."""
        return any(step == taken for taken, _ in self.expected)

    def figure(self, name: str) -> int:
        """A figure of the flow whose step is taken."""
        return self._figures[name]

    def text(self, *names: str) -> dict[str, Any]:
        """Names among the inputs."""
        return {name: self.names[name] for name in names}

    def _name(self, name: str, id: int) -> None:
        self._ids[name] = id
        self.names[name] = format_id(id)

    def _move_id(self, name: str, payer: int = 0) -> int:
        owner = _PAYERS.get(name, "buyer")
        payer = payer or (self._ids[owner] if owner else 0)
        return self._new_id(bucket=bucket_of_party(self.engine.settings.tenant, payer))

    def _limited(self, key: str, bounds: Mapping[str, int]) -> AccountDraft:
        """An account with guards, which the kernel counts as credits less debits."""
        floor, ceiling = bounds.get("floor"), bounds.get("ceiling")
        ceiling = None if ceiling is None else ceiling * self.book.factor
        if not CLASSES[key[0]].credit_normal:
            floor, ceiling = (None if ceiling is None else -ceiling), (None if floor is None else -floor)
        return AccountDraft(key=key, asset=MONEY, floor=floor, ceiling=ceiling)


def _one(amount: int, **columns: int | str) -> Lines:
    return Lines(
        things=["GOODS"], quantities=[1], amounts=[amount], columns={k: [v] for k, v in columns.items()}
    )


def _order(run: Run, transition: str, amount: int = 0, **columns: int | str) -> list[MoveCommand]:
    """A step of an order for a seller, which is placed first."""
    creation: dict[str, Any] = {
        "kind": "marketplace_order",
        "transition": "place",
        "payer": run.id("buyer"),
        "payee": run.id("seller"),
        "asset": MONEY,
        "lines": _one(amount, jurisdiction=run.names["jurisdiction"], **columns),
        "inputs": run.text("carrier"),
    }
    return run.move("order", transition, **creation)


def _basket(run: Run, transition: str) -> list[MoveCommand]:
    figures = ("goods", "commission", "shipping", "tax")
    if run.id("order") in run.begun:
        return run.move("order", transition)
    goods, commission, shipping, tax = (run.figure(name) for name in figures)
    return _order(run, transition, goods, commission=commission, shipping=shipping, tax=tax)


def _settlement(run: Run) -> list[MoveCommand]:
    gross = sum(run.figure(name) for name in ("goods", "shipping", "tax"))
    return run.fresh(
        "settlement", kind="settlement", asset=MONEY, amount=gross, inputs={"fee": run.figure("psp_fee")},
        payer=run.id("buyer"),
    )  # fmt: skip


def _payment(run: Run, transition: str, figure: str = "", amount: int = 0) -> list[MoveCommand]:
    return run.move(
        "payment",
        transition,
        {"amount": run.figure(figure)} if figure else {},
        kind="payment",
        payer=run.id("buyer"),
        asset=MONEY,
        amount=amount or run.figure("authorized"),
        inputs=run.text("order"),
    )


def _refund(run: Run, transition: str) -> list[MoveCommand]:
    if run.id("refund") in run.begun:
        return run.move("refund", transition)
    goods, commission, shipping, tax = (
        run.figure(f"{name}_back") for name in ("goods", "commission", "shipping", "tax")
    )
    lines = Lines(
        amounts=[goods],
        orders=[run.id("order")],
        order_lines=[1],
        columns={
            "commission": [commission], "shipping": [shipping], "tax": [tax],
            "jurisdiction": [run.names["jurisdiction"]],
        },
    )  # fmt: skip
    return run.move(
        "refund", transition, kind="marketplace_refund", payer=run.id("buyer"), payee=run.id("seller"),
        asset=MONEY, lines=lines, inputs=run.text("order"),
    )  # fmt: skip


def _dispute(run: Run, transition: str) -> list[MoveCommand]:
    lines = Lines(
        amounts=[run.figure("disputed")],
        orders=[run.id("order")],
        order_lines=[1],
        columns={
            "seller": [run.figure("of_seller")],
            "commission": [run.figure("of_commission")],
            "tax": [run.figure("of_tax")],
            "jurisdiction": [run.names["jurisdiction"]],
        },
    )
    return run.move(
        "dispute", transition, kind="dispute", payer=run.id("buyer"), payee=run.id("seller"), asset=MONEY,
        lines=lines, inputs={"fee": run.figure("fee")},
    )  # fmt: skip


def _escrow(run: Run, transition: str, figure: str = "", **inputs: int | str) -> list[MoveCommand]:
    return run.move(
        "order", transition, {"amount": run.figure(figure), "inputs": inputs} if figure else {},
        kind="escrow", payer=run.id("buyer"), payee=run.id("seller"), asset=MONEY, amount=run.figure("value"),
    )  # fmt: skip


def _release(run: Run) -> list[MoveCommand]:
    return _escrow(
        run, "release", "milestone", commission=run.figure("milestone_commission"),
        reserve=run.figure("reserved"), lot=run.names["reserve"],
    )  # fmt: skip


def _reserve_out(run: Run) -> list[MoveCommand]:
    return run.fresh(
        "reserve_release", kind="reserve_release", payer=run.id("seller"), asset=MONEY,
        inputs={"lot": run.names["reserve"]},
    )  # fmt: skip


def _payout(run: Run, transition: str) -> list[MoveCommand]:
    creation = {"kind": "payout", "payer": run.id("seller"), "asset": MONEY}
    if "payout" not in run.names:
        inputs = run.text("batch") | {"fee": run.figure("fee")}
        return run.fresh("payout", transition, **creation, inputs=inputs)
    return run.move("payout", transition)


def _card(run: Run, transition: str) -> list[MoveCommand]:
    return run.move(
        "card", transition, kind="gift_card", payer=run.id("buyer"), asset=MONEY, amount=run.figure("value")
    )


def _redemption(run: Run, transition: str, figure: str = "") -> list[MoveCommand]:
    more = {"amount": run.figure(figure)} if figure else {}
    if transition == "hold":
        return run.fresh(
            "redemption", "hold", kind="gift_card_redemption", payer=run.id("buyer"), asset=MONEY,
            amount=run.figure("held"), inputs=run.text("card", "order"),
        )  # fmt: skip
    return run.move("redemption", transition, more)


def _to_card(run: Run) -> list[MoveCommand]:
    return run.move(
        "refund", "grant_pre+to_gift_card", kind="marketplace_refund", payer=run.id("buyer"),
        payee=run.id("seller"), asset=MONEY, lines=Lines(amounts=[run.figure("back")]),
        inputs=run.text("order", "card"),
    )  # fmt: skip


def _grant(run: Run) -> list[MoveCommand]:
    return run.fresh(
        "grant", kind="store_credit", payer=run.id("buyer"), asset=MONEY, amount=run.figure("granted")
    )


def _spend(run: Run, transition: str) -> list[MoveCommand]:
    lent = run.figure("spent") - run.figure("granted")
    creation = {
        "kind": "store_credit_spend", "payer": run.id("buyer"), "asset": MONEY, "amount": run.figure("spent"),
        "inputs": run.text("order"),
    }  # fmt: skip
    if "spend" not in run.names:
        run._name("spend", run._move_id("spend"))
    return run.move("spend", transition, {"amount": lent} if transition == "advance" else {}, **creation)


def _on_account(run: Run, transition: str, figure: str = "") -> list[MoveCommand]:
    lines = _one(
        run.figure("goods"), shipping=run.figure("shipping"), tax=run.figure("tax"),
        jurisdiction=run.names["jurisdiction"],
    )  # fmt: skip
    creation = {"kind": "net_terms_order", "payer": run.id("buyer"), "asset": MONEY, "lines": lines}
    if transition == "credit_hold" and run.has_taken(transition):
        return run.fresh("other", transition, **creation)
    return run.move("order", transition, {"amount": run.figure(figure)} if figure else {}, **creation)


def _receipt(run: Run) -> list[MoveCommand]:
    return run.fresh(
        "receipt", kind="receipt", payer=run.id("buyer"), asset=MONEY, amount=run.figure("received")
    )


def _subscription(run: Run, transition: str, **inputs: int | str) -> list[MoveCommand]:
    return run.move(
        "subscription", transition, {"inputs": inputs}, kind="subscription", payer=run.id("buyer"),
        asset=MONEY, inputs=run.text("jurisdiction"),
    )  # fmt: skip


def _subscribe(run: Run) -> list[MoveCommand]:
    return _subscription(
        run, "subscribe", new_plan="PLAN1", new_price=run.figure("price"), new_days=run.figure("days"),
        tax=run.figure("tax"),
    )  # fmt: skip


def _change_plan(run: Run) -> list[MoveCommand]:
    days, day = run.figure("days"), run.figure("day")
    price = run.figure("needed") * days // (days - day)
    return _subscription(run, "change", new_plan="PLAN2", new_price=price, tax=run.figure("change_tax"))


def _currency(run: Run, transition: str, **inputs: int | str) -> list[MoveCommand]:
    ratios: dict[str, int | str] = {
        "mid_numerator": run.figure("middle"), "mid_denominator": run.figure("paid"),
        "rate_numerator": run.figure("converted"), "rate_denominator": run.figure("paid"),
    }  # fmt: skip
    return run.move(
        "order", transition, {"inputs": inputs}, kind="currency_order", payer=run.id("buyer"),
        payee=run.id("seller"), asset="USD", amount=run.figure("paid"),
        inputs=ratios | {"into": MONEY, "commission": run.figure("commission")},
    )  # fmt: skip


def _points(run: Run, transition: str, **inputs: int | str) -> list[MoveCommand]:
    if transition == "earn":
        own = {"points": run.figure("points"), "value": run.figure("value"), "lot": run.names["year"]}
        return run.fresh("points", kind="points_earned", payer=run.id("buyer"), asset=MONEY, inputs=own)
    return run.move("points", transition, {"inputs": inputs})


def _redeem(run: Run) -> list[MoveCommand]:
    own = {"points": run.figure("redeemed"), "value": run.figure("value"), "lot": run.names["year"]}
    return run.fresh(
        "redemption", kind="points_redemption", payer=run.id("buyer"), asset=MONEY,
        inputs=own | run.text("order"),
    )  # fmt: skip


def _points_expire(run: Run) -> list[MoveCommand]:
    own = {"value": run.figure("value"), "lot": run.names["year"]}
    return run.fresh("expiry", kind="points_expiry", payer=run.id("buyer"), asset=MONEY, inputs=own)


def _commission(run: Run, transition: str) -> list[MoveCommand]:
    if transition == "accrue":
        return run.fresh(
            "commission", "accrue", kind="affiliate_commission", payer=run.id("affiliate"), asset=MONEY,
            amount=run.figure("commission"),
        )  # fmt: skip
    reduces = transition in {"reduce", "clawback"}
    return run.move("commission", transition, {"amount": run.figure("reduced")} if reduces else {})


def _affiliate_payout(run: Run) -> list[MoveCommand]:
    return run.fresh(
        "payout", "build+submit", kind="affiliate_payout", payer=run.id("affiliate"), asset=MONEY,
        inputs=run.text("batch"),
    )  # fmt: skip


def _by_lot(run: Run, *lots: tuple[int, str]) -> Lines:
    """Units by lot, with what a unit costs."""
    costs = {"1": run.figure("cost_one"), "2": run.figure("cost_two"), "bo": 0}
    return Lines(
        things=["SKU"] * len(lots),
        quantities=[units for units, _ in lots],
        columns={"lot": [lot for _, lot in lots], "cost": [costs[lot] for _, lot in lots]},
    )


def _received(run: Run) -> list[MoveCommand]:
    return run.fresh(
        "receipt", kind="goods_receipt", payer=run.id("merchant"), payee=run.id("vendor"), asset=MONEY,
        lines=_by_lot(run, (5, "1"), (10, "2")),
    )  # fmt: skip


def _stock(run: Run, transition: str) -> list[MoveCommand]:
    lines = _by_lot(run, (3, "bo")) if transition == "backorder" else _by_lot(run, (5, "1"), (2, "2"))
    creation = {
        "kind": "stock_order", "payer": run.id("buyer"), "payee": run.id("merchant"), "asset": MONEY,
        "lines": lines,
    }  # fmt: skip
    if transition == "reserve" and run.has_taken(transition):
        return run.fresh("other", transition, **creation)
    more = {"lines": _by_lot(run, (3, "2"))} if transition == "fill_bo" else {}
    return run.move("order", transition, more, **creation)


def _return(run: Run, transition: str) -> list[MoveCommand]:
    if transition == "return_recv":
        return run.fresh(
            "return", transition, kind="stock_return", payer=run.id("buyer"), payee=run.id("merchant"),
            asset=MONEY, lines=_by_lot(run, (1, "2")),
        )  # fmt: skip
    return run.move("return", transition)


def _campaign(run: Run) -> list[MoveCommand]:
    return run.move(
        "campaign", "fund_budget", kind="campaign", payer=run.id("merchant"), asset=MONEY,
        amount=run.figure("budget"), inputs=run.text("code") | {"uses": run.figure("uses")},
    )  # fmt: skip


def _promotion(run: Run, transition: str) -> list[MoveCommand]:
    if transition == "hold":
        return run.fresh(
            "use", transition, kind="promotion_use", payer=run.id("buyer"), asset=MONEY,
            amount=run.figure("second"), inputs=run.text("campaign", "order", "code"),
        )  # fmt: skip
    return run.move("use", transition)


def _paid_for_one(run: Run) -> list[MoveCommand]:
    """The buyer pays for the first and the tax: by a payment where the platform pays the rest, else by the
    order itself."""
    due = run.figure("first") + run.figure("tax")
    if "subsidy" in run.way.steps:
        return _payment(run, "charge", amount=due)
    if "fulfil_own" in run.way.steps:
        return _own_sale(run, "capture")
    return _for_one(run, "capture", run.figure("first"), run.figure("own_commission"))


def _for_one(run: Run, transition: str, amount: int, commission: int) -> list[MoveCommand]:
    return _order(run, transition, amount, commission=commission, tax=run.figure("tax"))


def _own_sale(run: Run, transition: str) -> list[MoveCommand]:
    lines = Lines(
        things=["OWN-A", "OWN-B"],
        quantities=[1, 1],
        amounts=[run.figure("share_first"), run.figure("share_second")],
        columns={"tax": [run.figure("tax"), 0], "jurisdiction": [run.names["jurisdiction"]] * 2},
    )
    return run.move(
        "order", transition, kind="sale", transition="place", payer=run.id("buyer"), asset=MONEY, lines=lines
    )


Sends = Callable[[Run], list[MoveCommand]]


def _by_name(function: Callable[[Run, str], list[MoveCommand]], name: str) -> Sends:
    return lambda run: function(run, name)


def _with_figure(function: Callable[[Run, str, str], list[MoveCommand]], name: str, figure: str) -> Sends:
    return lambda run: function(run, name, figure)


def _plain(flow: str, function: Callable[[Run, str], list[MoveCommand]], names: str) -> dict[Any, Sends]:
    return {(flow, name): _by_name(function, name) for name in names.split()}


STEPS: Final[Mapping[tuple[str, str], Sends]] = {
    **_plain("F1", _basket, "capture fulfil clear cancel"),
    ("F1", "psp_settle"): _settlement,
    **_plain("F2", _payment, "authorize void"),
    ("F2", "adjust_up"): _with_figure(_payment, "adjust_up", "adjusted"),
    **{
        ("F2", name): _with_figure(_payment, name, "captured")
        for name in ("capture_req", "capture_ok", "capture_fail")
    },
    **_plain("F3", _refund, "grant_pre grant_post succeed to_credit"),
    **_plain("F4", _dispute, "open won lost"),
    **_plain("F5", _escrow, "fund contest"),
    ("F5", "release1"): _release,
    ("F5", "award"): lambda run: _escrow(run, "award", "awarded", commission=run.figure("award_commission")),
    ("F5", "reserve_out"): _reserve_out,
    **_plain("F6", _payout, "build submit paid returned returned_late recall"),
    **_plain("F7", _card, "issue breakage"),
    **_plain("F7", _redemption, "hold release"),
    ("F7", "capture"): _with_figure(_redemption, "capture", "spent"),
    ("F7", "split_card"): lambda run: _payment(run, "charge", amount=run.figure("by_card")),
    ("F7", "refund_to"): _to_card,
    ("F8", "grant"): _grant,
    **_plain("F8", _spend, "advance hold capture release unadvance repay"),
    **_plain("F9", _on_account, "credit_hold invoice write_off cancel_hold"),
    ("F9", "receive"): _receipt,
    ("F9", "apply"): _with_figure(_on_account, "apply", "received"),
    ("F9", "early_disc"): _with_figure(_on_account, "early_disc", "discount"),
    ("F9", "late_fee"): _with_figure(_on_account, "late_fee", "late_fee"),
    ("F10", "renew"): _subscribe,
    ("F10", "recognise"): lambda run: _subscription(run, "recognise", day=run.figure("day")),
    ("F10", "change"): _change_plan,
    **_plain("F10", _subscription, "recognise_end cancel_refund"),
    ("F10", "expire"): lambda run: _subscription(run, "lapse"),
    **_plain("F11", _currency, "capture convert split realise"),
    ("F11", "settle"): lambda run: _currency(run, "settle", proceeds=run.figure("proceeds")),
    **_plain("F12", _points, "earn vest"),
    ("F12", "clawback"): lambda run: _points(run, "clawback", taken=run.figure("taken")),
    ("F12", "redeem"): _redeem,
    ("F12", "expire"): _points_expire,
    **_plain("F13", _commission, "accrue reduce approve clawback write_off"),
    ("F13", "payout"): _affiliate_payout,
    ("F14", "receive"): _received,
    **_plain("F14", _stock, "reserve release backorder fill_bo allocate ship deliver"),
    **_plain("F14", _return, "return_recv restock scrap"),
    ("F15", "fund_budget"): _campaign,
    **_plain("F15", _promotion, "hold subsidy release"),
    ("F15", "capture"): _paid_for_one,
    ("F15", "fulfil"): lambda run: _for_one(
        run, "fulfil", run.figure("first") + run.figure("second"), run.figure("commission")
    ),
    ("F15", "fulfil_sf"): lambda run: run.move("order", "fulfil"),
    ("F15", "fulfil_own"): lambda run: run.move("order", "fulfil"),
}
"""By flow and step: what a platform sends."""
