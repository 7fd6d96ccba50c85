"""From a transition's postings to legs: fills a draft with what a kind's data says for one Move.

A `Scope` holds what names stand for: in keys, in amounts, and row by row. It is made once for a command,
whose transitions may be several. `Refused` leaves these functions when the numbers or keys are not
acceptable; the Moves' book turns it into an answer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from engine import ids
from engine.chart import Chart, ChartError
from engine.commands import Refusal
from engine.directory import Directory
from engine.drafts import INHERITED, Draft, KeyRun
from engine.facts import LineFacts
from engine.kinds import (
    CompiledKey,
    CompiledKind,
    CompiledPosting,
    CompiledTransition,
    Each,
    LineRule,
    asset_input,
)
from engine.layout import AMOUNT_MAX, LegFlag
from engine.templates import Amount, AmountTemplate, KeyTemplate

_BALANCING: Final = {
    "": 0,
    "debit": int(LegFlag.BALANCING_DEBIT),
    "credit": int(LegFlag.BALANCING_CREDIT),
}
_PENDING: Final = int(LegFlag.PENDING)
_NOTHING_KEPT: Final[Mapping[str, int | str]] = {}
"""The counters of most Moves."""


class Refused(Exception):  # noqa: N818  # it carries an expected answer out of nested calls, not an error
    """A command can't be carried out as it stands."""

    def __init__(self, code: Refusal, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Rows:
    """The legs or entries of a command: for each, an asset, and amounts and texts by name."""

    def __init__(self, assets: list[int], amounts: dict[str, list[int]], texts: dict[str, list[str]]) -> None:
        self.count = len(assets)
        self.assets = assets
        self.amounts = amounts
        self._texts = texts

    def __getitem__(self, name: str) -> list[str]:
        """The texts of a placeholder."""
        return self._texts[name]

    def flags(self, name: str) -> list[bool]:
        """Where a condition holds."""
        raise KeyError(name)


class LineRows(Rows):
    """The lines of a Move. Texts are made when a template asks for them."""

    def __init__(self, lines: LineFacts, directory: Directory, rule: LineRule) -> None:
        count = max(len(lines.things), len(lines.quantities), len(lines.amounts))
        amounts = {
            "line.amount": lines.amounts or [0] * count,
            "line.quantity": lines.quantities or [0] * count,
        }
        super().__init__(lines.things or [0] * count, amounts, {})
        self.lines = lines
        self.directory = directory
        self.contra = rule.contra  # reason → account key
        for name, default in rule.columns.items():
            column: list[Any] = lines.columns.get(name) or [default] * count
            if isinstance(default, int):
                amounts[f"line.{name}"] = column
            else:
                self._texts[f"line.{name}"] = column

    def __getitem__(self, name: str) -> list[str]:
        """The texts of a placeholder."""
        found = self._texts.get(name)
        if found is None:
            found = self._texts[name] = _LINE_TEXTS[name](self)
        return found

    @property
    def orders(self) -> list[int]:
        """Ids behind {line.order}."""
        return [ids.id_from_bytes(order) for order in self.lines.orders] or [0] * self.count

    def flags(self, name: str) -> list[bool]:
        """Where a condition holds."""
        known = [line > 0 for line in self.lines.order_lines] or [False] * self.count
        if name == "line.known":
            return known
        tracked = self.directory.tracked(self.assets)
        if name == "line.tracked":
            return tracked
        wanted = name == "line.returned"
        return [counted and is_known is wanted for counted, is_known in zip(tracked, known, strict=True)]


_LINE_TEXTS: Final[Mapping[str, Callable[[LineRows], list[str]]]] = {
    "line": lambda rows: [str(number) for number in range(1, rows.count + 1)],
    "line.thing": lambda rows: [str(asset) for asset in rows.assets],
    "line.order": lambda rows: [ids.format_id(order) for order in rows.orders],
    "line.order_line": lambda rows: [str(line) for line in rows.lines.order_lines] or ["0"] * rows.count,
    "line.account": lambda rows: rows.directory.accounts(rows.assets),
    "line.contra": lambda rows: [rows.contra[reason] for reason in rows.lines.reasons],
}


class Scope:
    """What the names in a Move's templates stand for."""

    def __init__(self, chart: Chart, directory: Directory, kind: CompiledKind, asset: int) -> None:
        self.chart = chart
        self.directory = directory
        self.kind = kind
        self.asset = asset  # of the money
        self.names: dict[str, str] = {}  # in keys
        self.ids: dict[str, int] = {}  # behind the names that stand for ids
        self.values: dict[str, Amount] = {}  # in amounts
        self.given_keys: frozenset[str] = frozenset()  # inputs that replace a default account
        self.rows: dict[Each, Rows] = {}
        self.buckets: dict[str, int] = {}  # of the Parties behind names, once asked for
        self.balance: Callable[[str, int], int] | None = None  # of an account, by key and asset
        self.kept: Mapping[str, int | str] = _NOTHING_KEPT  # counters as they are afterwards


def post(step: CompiledTransition, scope: Scope, draft: Draft, holds: list[int]) -> list[int]:
    """Append a transition's legs, and return the holds that are open after it. Raises Refused."""
    if step.readings:
        _read(step, scope)
    for says, amount in step.limits:
        if _scalar(amount, scope) < 0:
            raise Refused(Refusal.LIMIT_EXCEEDED, f"{step.transition.name}: {says}")
    for posting in step.postings:
        mode = posting.posting.mode
        if mode in {"post", "void"}:
            _resolve(posting, scope, draft, holds)
            holds = []
        elif posting.posting.each:
            _post_rows(posting, scope, draft)
        elif mode == "hold":
            if _post_one(posting, scope, draft, _PENDING):
                holds = [*holds, ids.leg_id(draft.request, len(draft) - 1)]
        else:
            _post_one(posting, scope, draft, 0)
    if step.keeps:
        _keep(step, scope)
    return holds


def _read(step: CompiledTransition, scope: Scope) -> None:
    """Ask for balances, as they are before the transition."""
    assert scope.balance is not None
    for name, key, asset in step.readings:
        try:
            text = key.template.one(scope.names)
        except KeyError as exc:
            raise _missing(exc, key) from exc
        scope.values[name] = scope.balance(text, _asset_of(asset, scope))


def _keep(step: CompiledTransition, scope: Scope) -> None:
    """Calculate the counters, all from what they were before."""
    kept: dict[str, int | str] = {}
    for name, template in step.keeps:
        if isinstance(template, KeyTemplate):
            kept[name] = template.one(scope.names)
        else:
            number = kept[name] = _scalar(template, scope)
            _check(number, number)
    scope.kept = {**scope.kept, **kept}
    scope.values |= {name: value for name, value in kept.items() if isinstance(value, int)}
    scope.names |= {name: str(value) for name, value in kept.items()}


def _resolve(compiled: CompiledPosting, scope: Scope, draft: Draft, holds: list[int]) -> None:
    """Post or void the Move's holds."""
    posting = compiled.posting.mode == "post"
    amount = _number(compiled, scope) if posting else 0
    for hold in holds:
        draft.pending.append((len(draft), hold))
        flag = LegFlag.POST_PENDING if posting else LegFlag.VOID_PENDING
        draft.add_legs([INHERITED], [INHERITED], [amount], flag)


def _post_one(compiled: CompiledPosting, scope: Scope, draft: Draft, flags: int) -> bool:
    """Append one leg, if its amount is not 0 and its condition holds; say whether."""
    amount = _number(compiled, scope)
    if compiled.condition and bool(scope.values[compiled.condition]) is compiled.negated:
        return False
    balancing = compiled.amount.balancing or compiled.posting.at_most
    if compiled.amount.balancing:
        amount = AMOUNT_MAX
    elif amount == 0:
        return False
    assert compiled.debit is not None
    assert compiled.credit is not None
    debit_key, credit_key = compiled.debit, compiled.credit
    if amount < 0 and compiled.posting.signed:
        debit_key, credit_key, amount = credit_key, debit_key, -amount
    _check(amount, amount)
    asset = _asset(compiled, scope)
    debit = draft.account(_key_place(debit_key, scope, draft), asset)
    credit = draft.account(_key_place(credit_key, scope, draft), asset)
    draft.add_legs([debit], [credit], [amount], flags | _BALANCING[balancing])
    return True


def _post_rows(compiled: CompiledPosting, scope: Scope, draft: Draft) -> None:
    """Append a leg for each row whose amount is not 0 and for which the condition holds."""
    rows = scope.rows.get(compiled.posting.each)
    if rows is None:
        raise Refused(Refusal.FIELD_MISSING, f"{compiled.posting.each}s: missing")
    amounts = _numbers(compiled, scope, rows)
    chosen = _chosen(compiled, scope, rows, amounts)
    if chosen is not None:
        if not chosen:
            return
        amounts = [amounts[row] for row in chosen]
    lowest, highest = min(amounts), max(amounts)
    flags = _BALANCING[compiled.amount.balancing or compiled.posting.at_most]
    assert compiled.debit is not None
    assert compiled.credit is not None
    if lowest < 0 and compiled.posting.signed:
        _check(0, max(highest, -lowest))
        debits = _side(compiled, compiled.debit, scope, draft, rows, chosen)
        credits = _side(compiled, compiled.credit, scope, draft, rows, chosen)
        swapped = [
            (c, d) if amount < 0 else (d, c) for d, c, amount in zip(debits, credits, amounts, strict=True)
        ]
        draft.add_legs([d for d, _ in swapped], [c for _, c in swapped], [abs(a) for a in amounts], flags)
        return
    _check(lowest, highest)
    debits = _side(compiled, compiled.debit, scope, draft, rows, chosen)
    credits = _side(compiled, compiled.credit, scope, draft, rows, chosen)
    if compiled.posting.merge:
        debits, credits, amounts = _merged(draft, debits, credits, amounts)
        _check(min(amounts), max(amounts))
    draft.add_legs(debits, credits, amounts, flags)


def _merged(
    draft: Draft, debits: Sequence[int], credits: Sequence[int], amounts: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """Legs of the same asset as one, of accounts that have their keys in common."""
    sums: dict[int, tuple[int, int, int]] = {}
    for debit, credit, amount in zip(debits, credits, amounts, strict=True):
        asset = draft.account_assets[debit]
        first_debit, first_credit, so_far = sums.get(asset, (debit, credit, 0))
        sums[asset] = first_debit, first_credit, so_far + amount
    merged_debits, merged_credits, merged_amounts = zip(*sums.values(), strict=True)
    return list(merged_debits), list(merged_credits), list(merged_amounts)


def _chosen(compiled: CompiledPosting, scope: Scope, rows: Rows, amounts: list[int]) -> list[int] | None:
    """The rows that get a leg; None = all."""
    if not compiled.condition:
        return None if 0 not in amounts else [row for row, amount in enumerate(amounts) if amount]
    wanted = not compiled.negated
    if compiled.condition in scope.values:
        whole = bool(scope.values[compiled.condition]) is wanted
        return [row for row, amount in enumerate(amounts) if amount] if whole else []
    flags = rows.flags(compiled.condition)
    chosen = [row for row, amount in enumerate(amounts) if amount and flags[row] is wanted]
    return None if len(chosen) == rows.count else chosen


def _side(
    compiled: CompiledPosting,
    key: CompiledKey,
    scope: Scope,
    draft: Draft,
    rows: Rows,
    chosen: list[int] | None,
) -> Sequence[int]:
    """The accounts on one side of the chosen rows."""
    count = rows.count if chosen is None else len(chosen)
    of_row = compiled.posting.asset == "row"
    if not key.template.rows:
        place = _key_place(key, scope, draft)
        if not of_row:
            return [draft.account(place, _asset(compiled, scope))] * count
        places: Sequence[int] = [place] * count
    else:
        places = _key_places(key, scope, draft, rows, chosen)
    if of_row:
        assets = rows.assets if chosen is None else [rows.assets[row] for row in chosen]
    else:
        assets = [_asset(compiled, scope)] * count
    return draft.accounts(places, assets)


def _key_place(key: CompiledKey, scope: Scope, draft: Draft) -> int:
    """The place of a key that is the same for the whole Move."""
    whole = key.template.whole
    if whole and whole in scope.kind.input_keys and whole not in scope.given_keys:
        key = scope.kind.input_keys[whole]
    try:
        text = key.template.one(scope.names)
    except KeyError as exc:
        raise _missing(exc, key) from exc
    place = draft.key_place(text)
    if place >= 0:
        return place
    if not key.home or len(key.template.pieces) == 1:
        return _asked_place(text, scope, draft)
    bucket, party = _home(key, scope)
    hashes = ids.key_hashes_of(scope.chart.tenant, [text])
    return draft.add_key(text, hashes[0], KeyRun(1, bucket, party, key.code, key.floor, key.ceiling))


def _asked_place(text: str, scope: Scope, draft: Draft) -> int:
    """The place of a key about which only the chart knows."""
    place = draft.key_place(text)
    if place >= 0:
        return place
    try:
        spec = scope.chart.account(text)
    except ChartError as exc:
        raise Refused(Refusal.ACCOUNT_KEY_INVALID, str(exc)) from exc
    run = KeyRun(1, spec.bucket, spec.party, spec.code, spec.floor, spec.ceiling)
    return draft.add_key(text, spec.hash, run)


def _key_places(
    key: CompiledKey, scope: Scope, draft: Draft, rows: Rows, chosen: list[int] | None
) -> Sequence[int]:
    """The places of keys that differ from row to row."""
    try:
        texts = key.template.many(scope.names, rows)
    except KeyError as exc:
        raise _missing(exc, key) from exc
    if chosen is not None:
        texts = [texts[row] for row in chosen]
    if not key.home:
        places = {text: _asked_place(text, scope, draft) for text in dict.fromkeys(texts)}
        if len(places) == 1:
            return [*places.values()] * len(texts)
        return [places[text] for text in texts]
    hashes = ids.key_hashes_of(scope.chart.tenant, texts)
    if key.home == "line.order":
        assert isinstance(rows, LineRows)
        orders = rows.orders
        if chosen is not None:
            orders = [orders[row] for row in chosen]
        payer = scope.ids["payer"]
        runs = [
            KeyRun(1, ids.bucket_of_id(order), payer, key.code, key.floor, key.ceiling) for order in orders
        ]
    else:
        bucket, party = _home(key, scope)
        runs = [KeyRun(len(texts), bucket, party, key.code, key.floor, key.ceiling)]
    first = draft.add_keys(texts, hashes, runs)
    return range(first, first + len(texts))


def _missing(name: KeyError, key: CompiledKey) -> Refused:
    return Refused(
        Refusal.FIELD_MISSING, f"{name.args[0]}: missing; the account {key.template.text} is named after it"
    )


def _home(key: CompiledKey, scope: Scope) -> tuple[int, int]:
    """Bucket and Party of a key's owner. What belongs to a Move belongs to its payer."""
    if key.home == "platform":
        return scope.chart.platform_bucket, 0
    named = scope.ids[key.home]
    if key.of_move:
        return ids.bucket_of_id(named), scope.ids["payer"]
    bucket = scope.buckets.get(key.home)
    if bucket is None:
        bucket = scope.buckets[key.home] = ids.bucket_of_party(scope.chart.tenant, named)
    return bucket, named


def _asset(compiled: CompiledPosting, scope: Scope) -> int:
    return _asset_of(compiled.posting.asset, scope)


def _asset_of(code: str, scope: Scope) -> int:
    if code == "money":
        asset = scope.asset
    else:
        given = asset_input(code)
        asset = scope.directory.asset(scope.names[given] if given else code)
    if not asset:
        what = "the Move names no asset" if code == "money" else f"no Thing has the code {code!r}"
        raise Refused(Refusal.ASSET_NOT_FOUND, f"asset: {what}")
    return asset


def _number(compiled: CompiledPosting, scope: Scope) -> int:
    return _scalar(compiled.amount, scope)


def _scalar(amount: AmountTemplate, scope: Scope) -> int:
    number = _evaluated(amount, scope.values)
    assert isinstance(number, int), "only a posting with rows has amounts by row"
    return number


def _numbers(compiled: CompiledPosting, scope: Scope, rows: Rows) -> list[int]:
    if compiled.amount.balancing:
        return [AMOUNT_MAX] * rows.count
    plain = rows.amounts.get(compiled.amount.text)
    if plain is not None:
        return plain
    numbers = _evaluated(compiled.amount, {**scope.values, **rows.amounts})
    return numbers if isinstance(numbers, list) else [numbers] * rows.count


def _evaluated(amount: AmountTemplate, values: dict[str, Amount]) -> Amount:
    try:
        return amount.evaluate(values)
    except ZeroDivisionError as exc:
        raise Refused(Refusal.FIELD_INVALID, f"amount {amount.text!r} divides by 0") from exc


def _check(lowest: int, highest: int) -> None:
    if lowest < 0:
        raise Refused(Refusal.AMOUNT_NEGATIVE, f"an amount would be {lowest}; amounts are not negative")
    if highest > AMOUNT_MAX:
        raise Refused(
            Refusal.AMOUNT_OVERFLOWS, f"an amount would be {highest}; at most {AMOUNT_MAX} is accepted"
        )
