"""Move kinds as data: states, transitions, and what each transition posts.

A kind is a frozen struct, so it can be written as JSON and read with `kind_from_data`. `compile_kind` checks
it as a whole and turns its templates into something fast; a kind that compiles can't fail later for a name
nobody knows. The kinds that come with Tessera are in `engine.standard_kinds`.

A posting moves `amount` of `asset` from one account to another: it debits the first and credits the second.

- `each` repeats it for every row of the command: its lines, legs or entries. Names with a dot belong to the
  row.
- `asset` is `money` (the Move's), `row` (the line's Thing, the leg's or entry's asset), the code of a
  Thing, or `{name}`: the code that an input gives.
- `when` keeps the rows, or the whole posting, for which a name is true (not 0, not false); `not name` turns
  it round.
- `signed`: where the amount is negative, debit and credit change places.
- `hold` reserves instead of moving; `post` and `void` (with `amount` and accounts left out) resolve the
  Move's holds.
- `amount` may be `bal(debit)` or `bal(credit)`: all that is left there; `at_most` makes a plain amount an
  upper bound in the same way.

A leg of amount 0 is left out. All postings of a command are one chain: they happen together or not at all.

Beyond its postings, a transition may say:

- `inputs`: names that only its own request gives, with defaults; a kind's `inputs` stay with the Move.
- `readings`: balances as they are before the transition, by name. A command that reads is decided after all
  before it, so what it read is still so when it happens. They are balances of the Move's or its payer's.
- `limits`: what has to be so, in words, with an amount that may not be below 0.
- `by_engine`: the engine takes it when time is up: `expire`, when a hold of the Move has run out; or, if it
  has postings of its own, when as many seconds have passed as the `timeout` of the request that led here.
- `keeps`: what the Move's `counters` are afterwards. Requests can't give counters; a sequence of parts that
  must add up exactly posts the share of all parts so far, less the share of those before, and keeps how many.

Ids besides payer and payee that a kind's accounts are named after are its `roles`. They are given among the
inputs of a creation.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from engine.chart import OPEN, Chart, ChartError, Owner, Rule, parse_key
from engine.ids import format_id
from engine.templates import AmountTemplate, KeyTemplate, TemplateError, parse_amount, parse_key_template

Each = Literal["", "line", "leg", "entry"]
Side = Literal["", "debit", "credit"]
Mode = Literal["move", "hold", "post", "void"]

PATH_SEPARATOR: Final = "+"
EXPIRE: Final = "expire"
"""The transition that the engine lets a Move take when a hold of it runs out, or its own time."""
SUM_PREFIX: Final = "total."
"""Before the name of a column of a kind's own lines: its sum."""
CODE_MAX: Final = 2**16 - 1

KEY_SCALARS: Final = frozenset({"move", "payer", "payee", "tender", "reason", "reverses"})
"""Placeholders of keys that are the same for the whole Move; a kind's inputs come on top."""
ID_NAMES: Final = frozenset({"move", "payer", "payee", "reverses", "line.order"})
"""Placeholders that stand for an id, so that an account may live with what they name."""
KEY_ROWS: Final[Mapping[Each, frozenset[str]]] = {
    "": frozenset(),
    "line": frozenset({"line", "line.thing", "line.order", "line.order_line", "line.account", "line.contra"}),
    "leg": frozenset({"leg.debit", "leg.credit"}),
    "entry": frozenset({"entry.account"}),
}
"""Placeholders of keys that differ from row to row."""
AMOUNT_SCALARS: Final = frozenset({"amount", "given", "given_or_all", "total"})
"""Names in amounts: the Move's amount, this request's, this request's or all if it names none, the lines'
sum.
"""
AMOUNT_ROWS: Final[Mapping[Each, frozenset[str]]] = {
    "": frozenset(),
    "line": frozenset({"line.amount", "line.quantity"}),
    "leg": frozenset({"leg.amount"}),
    "entry": frozenset({"entry.amount"}),
}
CONDITION_ROWS: Final[Mapping[Each, frozenset[str]]] = {
    "": frozenset(),
    "line": frozenset({"line.tracked", "line.known", "line.returned", "line.unknown"}),
    "leg": frozenset(),
    "entry": frozenset(),
}
"""Names in `when` that differ from row to row. Of a line: its Thing's units are counted; it reverses a line
that is known; both; units are counted and it reverses nothing known.
"""
FIELDS: Final = frozenset(
    {
        "payer",
        "payee",
        "asset",
        "amount",
        "tender",
        "reason",
        "lines",
        "legs",
        "entries",
        "reverses",
        "timeout",
    }
)
"""Fields of a command that a kind must name to accept; the others (reference …) every Move takes."""
LINE_COLUMNS: Final = frozenset({"things", "quantities", "amounts", "orders", "order_lines", "reasons"})
CHECKS: Final = frozenset({"orders_ended", "reverses_once"})
"""Checks in code that a transition may ask for. `orders_ended`: no order that a line reverses is still open
here. `reverses_once`: the Move's id is the one that follows from the Move it reverses.
"""


class KindError(ValueError):
    """A kind that doesn't hold together. The message says where and what would be accepted."""

    def __init__(self, kind: str, where: str, reason: str) -> None:
        super().__init__(kind, where, reason)
        self.kind = kind
        self.where = where
        self.reason = reason

    def __str__(self) -> str:
        return f"kind {self.kind!r}, {self.where}: {self.reason}"


Role = Literal["party", "move"]


class Posting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One leg, or one for each row; see the module's docstring."""

    debit: str = ""
    credit: str = ""
    amount: str = ""
    asset: str = "money"
    each: Each = ""
    when: str = ""
    signed: bool = False
    at_most: Side = ""
    mode: Mode = "move"
    merge: bool = False  # rows of the same asset make one leg; the accounts are the same for all rows


class Reading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A balance that a transition asks for: what is there on its normal side, less what is held of it."""

    account: str
    asset: str = "money"


class Transition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A step from one of some states to another. A name may occur again with other sources."""

    name: str
    sources: list[str]
    target: str
    postings: list[Posting] = []
    needs: list[str] = []  # fields of this request; `a|b` = one of them
    takes: list[str] = []
    checks: list[str] = []
    by_engine: bool = False  # only the engine itself takes it (a hold ran out)
    inputs: dict[str, int | str] = {}  # names that only this request gives, with defaults
    readings: dict[str, Reading] = {}
    limits: dict[str, str] = {}  # words for the refusal → amount that may not be below 0
    keeps: dict[str, str] = {}  # counter → amount, or of a text one its text, with placeholders


class LineRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which columns a kind's lines have."""

    needs: list[str] = []
    takes: list[str] = []
    signed: bool = False  # amounts and quantities may be negative
    contra: dict[str, str] = {}  # reason → account key, for {line.contra}
    columns: dict[str, int | str] = {}  # columns of the kind's own, with what a line has that gives nothing


class MoveKind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A kind of Move."""

    name: str
    code: int  # of its legs, never reused
    states: list[str]  # the first is where a Move starts
    transitions: list[Transition]
    usual: str = ""  # transitions that a creation takes if it names none, joined by "+"
    needs: list[str] = []  # fields of the creation; `a|b` = one of them
    takes: list[str] = []
    lines: LineRule | None = None
    inputs: dict[str, int | str] = {}  # names that templates may use, with defaults
    defaults: dict[str, str] = {}  # of the fields tender and reason
    roles: dict[str, Role] = {}  # names that stand for ids
    counters: dict[str, int | str] = {}  # what transitions keep, as it is at first


class CompiledKey(NamedTuple):
    """A key template, with what its account is whatever the placeholders stand for.

    `home` names who it lives with: "platform", or the placeholder of the Move or Party. If that depends on
    the placeholders it is "", and code and guards (in the kernel's terms) are to be asked of the chart for
    each key.
    """

    template: KeyTemplate
    home: str
    of_move: bool = False  # it lives where that id says, as a Move does; else in the bucket of that Party
    code: int = 0
    floor: int = 0
    ceiling: int = 0


class CompiledPosting(NamedTuple):
    """A posting with its templates parsed. `debit` and `credit` are None for a post or void."""

    posting: Posting
    debit: CompiledKey | None
    credit: CompiledKey | None
    amount: AmountTemplate
    condition: str  # "" = always
    negated: bool


class CompiledTransition(NamedTuple):
    """A transition, ready to be taken from one state."""

    transition: Transition
    postings: tuple[CompiledPosting, ...]
    ended: bool  # its target is terminal
    readings: tuple[tuple[str, CompiledKey, str], ...] = ()  # name, account, asset
    limits: tuple[tuple[str, AmountTemplate], ...] = ()
    keeps: tuple[tuple[str, AmountTemplate | KeyTemplate], ...] = ()

    @property
    def amounts(self) -> list[AmountTemplate]:
        """All that it calculates."""
        kept = [amount for _, amount in self.keeps if isinstance(amount, AmountTemplate)]
        return [posting.amount for posting in self.postings] + [amount for _, amount in self.limits] + kept


class CompiledKind(NamedTuple):
    """A kind that holds together."""

    kind: MoveKind
    steps: Mapping[tuple[str, str], CompiledTransition]  # by (state, transition)
    names: frozenset[str]  # of all transitions
    input_keys: Mapping[str, CompiledKey]  # inputs that are account keys by default

    def next_of(self, state: str) -> list[str]:
        """The transitions that a client may take from a state."""
        return [
            name
            for (source, name), step in self.steps.items()
            if source == state and not step.transition.by_engine
        ]

    def has_deadline(self, state: str) -> bool:
        """Whether the engine takes a Move on from a state when its time is up."""
        step = self.steps.get((state, EXPIRE))
        return step is not None and step.transition.by_engine and bool(step.transition.postings)

    def ended(self, state: str) -> bool:
        """Whether nothing leads on from a state."""
        return all(source != state for source, _ in self.steps)


def kind_from_data(data: Any) -> MoveKind:
    """A kind from plain dicts and lists, as read from JSON. Raises KindError."""
    try:
        return msgspec.convert(data, MoveKind)
    except msgspec.ValidationError as exc:
        name = data.get("name", "?") if isinstance(data, dict) else "?"
        raise KindError(str(name), "data", str(exc)) from exc


def compile_kinds(kinds: Iterable[MoveKind], chart: Chart) -> dict[str, CompiledKind]:
    """All kinds by name. Raises KindError if one does not hold together, or two share a name or code."""
    compiled: dict[str, CompiledKind] = {}
    codes: dict[int, str] = {}
    for kind in kinds:
        if kind.name in compiled:
            raise KindError(kind.name, "name", "there are two kinds of this name")
        if kind.code in codes:
            raise KindError(
                kind.name, "code", f"{kind.code} is the code of kind {codes[kind.code]!r} already"
            )
        codes[kind.code] = kind.name
        compiled[kind.name] = compile_kind(kind, chart)
    return compiled


def compile_kind(kind: MoveKind, chart: Chart) -> CompiledKind:
    """Check a kind as a whole and parse its templates. Raises KindError."""
    _check_names(kind)
    sources = {source for transition in kind.transitions for source in transition.sources}
    steps: dict[tuple[str, str], CompiledTransition] = {}
    for transition in kind.transitions:
        where = f"transition {transition.name!r}"
        names = _names_of(kind, transition)
        postings = tuple(
            _compile_posting(kind, f"{where}, posting {number}", posting, names, chart)
            for number, posting in enumerate(transition.postings, 1)
        )
        step = CompiledTransition(
            transition,
            postings,
            transition.target not in sources,
            tuple(
                _compile_reading(kind, f"{where}, reading {name!r}", name, reading, names, chart)
                for name, reading in transition.readings.items()
            ),
            tuple(
                (says, _compile_amount(kind, f"{where}, limits", text, names))
                for says, text in transition.limits.items()
            ),
            tuple(
                (name, _compile_kept(kind, f"{where}, keeps {name!r}", kind.counters[name], text, names))
                for name, text in transition.keeps.items()
            ),
        )
        for source in transition.sources:
            if (source, transition.name) in steps:
                raise KindError(kind.name, where, f"there are two of this name from state {source!r}")
            steps[source, transition.name] = step
    known = frozenset(transition.name for transition in kind.transitions)
    compiled = CompiledKind(kind, steps, known, _compile_inputs(kind, chart))
    _check_path(compiled)
    return compiled


class _Names(NamedTuple):
    """What the templates of one transition may name."""

    ids: frozenset[str]  # stand for ids
    keys: frozenset[str]  # in keys, the same for the whole Move
    texts: frozenset[str]  # inputs that are texts
    amounts: frozenset[str]
    line_keys: frozenset[str]  # in keys, row by row
    line_amounts: frozenset[str]


def _names_of(kind: MoveKind, transition: Transition | None = None) -> _Names:
    inputs = kind.inputs | kind.counters | (transition.inputs if transition is not None else {})
    numbers = {name for name, default in inputs.items() if isinstance(default, int)}
    columns = kind.lines.columns if kind.lines is not None else {}
    counted = {name for name, default in columns.items() if isinstance(default, int)}
    readings = transition.readings.keys() if transition is not None else set()
    return _Names(
        ids=ID_NAMES | kind.roles.keys(),
        keys=KEY_SCALARS | inputs.keys() | kind.roles.keys(),
        texts=frozenset(inputs.keys() - numbers),
        amounts=AMOUNT_SCALARS | numbers | readings | {SUM_PREFIX + name for name in counted},
        line_keys=frozenset(f"line.{name}" for name in columns.keys() - counted),
        line_amounts=frozenset(f"line.{name}" for name in counted),
    )


def _compile_inputs(kind: MoveKind, chart: Chart) -> dict[str, CompiledKey]:
    keys = {name: text for name, text in kind.inputs.items() if isinstance(text, str) and text[1:2] == ":"}
    names = _names_of(kind)
    try:
        return {
            name: _compile_key(
                parse_key_template(text, KEY_SCALARS | kind.roles.keys(), frozenset()), names.ids, chart
            )
            for name, text in keys.items()
        }
    except (TemplateError, ChartError) as exc:
        raise KindError(kind.name, "inputs", str(exc)) from exc


def _check_names(kind: MoveKind) -> None:
    """States, fields, columns, inputs and checks are known, and said once."""

    def known(where: str, names: Iterable[str], accepted: Iterable[str]) -> None:
        choices = sorted(accepted)
        for name in names:
            for choice in name.split("|"):
                if choice not in choices:
                    raise KindError(
                        kind.name, where, f"unknown {choice!r}; accepted are {', '.join(choices)}"
                    )

    if not kind.states or len(set(kind.states)) != len(kind.states):
        raise KindError(kind.name, "states", "expected one or more, each once")
    if not 0 < kind.code <= CODE_MAX:
        raise KindError(kind.name, "code", f"expected 1 to {CODE_MAX}, not {kind.code}")
    known("fields", [*kind.needs, *kind.takes], FIELDS | kind.inputs.keys() | kind.roles.keys())
    known("defaults", kind.defaults, {"tender", "reason"})
    _check_new_names(kind)
    if kind.lines is not None:
        columns = kind.lines.columns
        known("lines", [*kind.lines.needs, *kind.lines.takes], LINE_COLUMNS | columns.keys())
        for reason, key in kind.lines.contra.items():
            try:
                parse_key(key)
            except ChartError as exc:
                raise KindError(kind.name, f"lines, contra of {reason!r}", str(exc)) from exc
    for transition in kind.transitions:
        where = f"transition {transition.name!r}"
        if not transition.name.isidentifier() or not transition.sources:
            raise KindError(kind.name, where, "expected a name of letters, digits and _, and a source")
        known(where, [*transition.sources, transition.target], kind.states)
        inputs = kind.inputs.keys() | transition.inputs.keys()
        known(where, [*transition.needs, *transition.takes], FIELDS | inputs)
        known(where, transition.checks, CHECKS)
        known(where, transition.keeps, kind.counters)
        for by_row in [posting.each for posting in transition.postings if posting.each == "line"]:
            if kind.lines is None:
                raise KindError(kind.name, where, f"each {by_row}: the kind has no lines")
    targets = {transition.target for transition in kind.transitions}
    for state in kind.states[1:]:
        if state not in targets:
            raise KindError(kind.name, "states", f"no transition leads to {state!r}")


def _check_new_names(kind: MoveKind) -> None:
    """Names of the kind's own are new: no transition's input, counter, role … hides another."""
    taken = KEY_SCALARS | AMOUNT_SCALARS
    for where, names in (("roles", kind.roles), ("inputs", kind.inputs), ("counters", kind.counters)):
        for name in names:
            if name in taken or not name.isidentifier():
                raise KindError(kind.name, where, f"{name!r} is no new name")
        taken |= names.keys()
    for transition in kind.transitions:
        where = f"transition {transition.name!r}"
        for name in [*transition.inputs, *transition.readings]:
            if name in taken or not name.isidentifier():
                raise KindError(kind.name, where, f"{name!r} is no new name")
    for name in kind.lines.columns if kind.lines is not None else ():
        if not name.isidentifier() or f"line.{name}" in KEY_ROWS["line"] | AMOUNT_ROWS["line"]:
            raise KindError(kind.name, "lines, columns", f"{name!r} is no new name")


def _check_path(compiled: CompiledKind) -> None:
    kind = compiled.kind
    state = kind.states[0]
    for name in kind.usual.split(PATH_SEPARATOR) if kind.usual else []:
        step = compiled.steps.get((state, name))
        if step is None:
            raise KindError(kind.name, "usual", f"no transition {name!r} from state {state!r}")
        state = step.transition.target


def _compile_amount(kind: MoveKind, where: str, text: str, names: _Names) -> AmountTemplate:
    try:
        amount = parse_amount(text, names.amounts, frozenset())
        if amount.balancing:
            raise TemplateError(text, "what is left of an account is a reading here")
    except TemplateError as exc:
        raise KindError(kind.name, where, str(exc)) from exc
    return amount


def _compile_kept(
    kind: MoveKind, where: str, first: int | str, text: str, names: _Names
) -> AmountTemplate | KeyTemplate:
    if isinstance(first, int):
        return _compile_amount(kind, where, text, names)
    try:
        return parse_key_template(text, names.keys, frozenset())
    except TemplateError as exc:
        raise KindError(kind.name, where, str(exc)) from exc


def _compile_reading(
    kind: MoveKind, where: str, name: str, reading: Reading, names: _Names, chart: Chart
) -> tuple[str, CompiledKey, str]:
    try:
        _check_asset(reading.asset, names)
        key = _compile_key(parse_key_template(reading.account, names.keys, frozenset()), names.ids, chart)
        if key.home not in {"move", "payer"}:
            raise TemplateError(reading.account, "expected an account of the Move or its payer")
    except (TemplateError, ChartError) as exc:
        raise KindError(kind.name, where, str(exc)) from exc
    return name, key, reading.asset


def _check_asset(asset: str, names: _Names) -> None:
    name = asset_input(asset)
    if name and name not in names.texts:
        raise TemplateError(asset, f"no input that is a text; known are {', '.join(sorted(names.texts))}")


def asset_input(asset: str) -> str:
    """The input that gives a posting's asset, "" if none does."""
    return asset[1:-1] if asset[:1] == "{" and asset[-1:] == "}" else ""


def _compile_posting(
    kind: MoveKind, where: str, posting: Posting, names: _Names, chart: Chart
) -> CompiledPosting:
    try:
        return _parsed(posting, names, chart)
    except (TemplateError, ChartError) as exc:
        raise KindError(kind.name, where, str(exc)) from exc


def _parsed(posting: Posting, names: _Names, chart: Chart) -> CompiledPosting:
    each = posting.each
    amount_rows = AMOUNT_ROWS[each] | (names.line_amounts if each == "line" else frozenset())
    amount = parse_amount(posting.amount or "given_or_all", names.amounts, amount_rows)
    negated = posting.when.startswith("not ")
    condition = posting.when.removeprefix("not ")
    conditions = CONDITION_ROWS[each] | names.amounts
    if condition and condition not in conditions:
        raise TemplateError(posting.when, f"unknown name; known are {', '.join(sorted(conditions))}")
    if posting.mode in {"post", "void"}:
        if posting.debit or posting.credit or each:
            raise TemplateError(posting.mode, "accounts and rows are those of the hold; leave them out")
        return CompiledPosting(posting, None, None, amount, condition, negated)
    if not posting.amount:
        raise TemplateError("", "an amount is missing")
    if posting.asset == "row" and not each:
        raise TemplateError(posting.asset, "only a posting with `each` has rows")
    _check_asset(posting.asset, names)
    if posting.merge and (not each or "line." in posting.debit + posting.credit):
        raise TemplateError(posting.debit, "only rows that have their accounts in common are merged")
    if posting.mode == "hold" and (each or amount.balancing or posting.at_most):
        raise TemplateError(posting.amount, "a hold is one leg of a known amount")
    rows = KEY_ROWS[each] | (names.line_keys if each == "line" else frozenset())
    debit, credit = (
        _compile_key(parse_key_template(text, names.keys, rows), names.ids, chart)
        for text in (posting.debit, posting.credit)
    )
    return CompiledPosting(posting, debit, credit, amount, condition, negated)


def _compile_key(template: KeyTemplate, id_names: frozenset[str], chart: Chart) -> CompiledKey:
    """Ask the chart about a sample of the key: an id where an id is expected, else a letter."""
    if template.whole:
        return CompiledKey(template, "")
    names = set(template.pieces[1::2])
    sample = {name: format_id(0) if name in id_names else "x" for name in names}
    text = template.one(sample)
    parsed = parse_key(text)
    purpose = template.pieces[0][2:].partition("/")
    rule = chart.rule(parsed)
    if rule == Rule(Owner.PLATFORM, OPEN) and (len(template.pieces) == 1 or purpose[1]):
        home = "platform"
    elif not purpose[1]:
        return CompiledKey(template, "")
    else:
        place = 2 if rule.owner is Owner.SECOND_PARTY else 1
        home = _name_at(template, place)
        if home not in id_names:
            chart.account(text)  # raises where an owner is needed
            return CompiledKey(template, "")
    floor, ceiling = rule.guards.in_kernel_terms(parsed.klass.credit_normal)
    return CompiledKey(template, home, rule.owner is Owner.MOVE, parsed.klass.code, floor, ceiling)


def _name_at(template: KeyTemplate, place: int) -> str:
    """The placeholder that is one whole part of a key (lots apart), or ""."""
    parts = template.text.split("/")
    part = parts[place].partition("#")[0] if len(parts) > place else ""
    return part[1:-1] if part[:1] == "{" and part[-1:] == "}" else ""
