"""From a command as it was sent to what a Move needs: fields that are accepted and present, rows that fit
together.

Everything wrong leaves as `Refused`, saying what, where, and what would be accepted. Nothing here changes
state.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from engine import ids
from engine.chart import CLASSES, PART
from engine.commands import LINES_MAX, JournalEntries, JournalLegs, Lines, MoveCommand, Refusal
from engine.directory import Directory, document_bytes, text_fault
from engine.entities import Side
from engine.facts import NO_ID, LineFacts
from engine.kinds import FIELDS, CompiledKind, LineRule, Role
from engine.layout import AMOUNT_MAX
from engine.posting import Refused, Rows

UINT32_MAX: Final = 2**32 - 1
TIME_MAX: Final = 2**62
TEXT_MAX: Final = 64
"""Characters in a tender, a reason or a text input."""

_FIELD_ORDER: Final = tuple(sorted(FIELDS))
_LINE_FIELDS: Final = tuple(name for name in Lines.__struct_fields__ if name != "columns")
_ABSENT: Final = {field.name: field.default for field in msgspec.structs.fields(MoveCommand)}


class Wanted(NamedTuple):
    """The fields that a command must have and may have besides those that every Move takes."""

    needed: tuple[str, ...]  # `a|b` = one of them
    accepted: frozenset[str]
    inputs: Mapping[str, int | str]  # those that it may have, with their defaults
    roles: Mapping[str, Role]  # and those that stand for ids


def check_command(command: MoveCommand, wanted: Wanted, kind: CompiledKind) -> None:
    """Fields, inputs and plain values of a command."""
    given = {name for name in _FIELD_ORDER if getattr(command, name) != _ABSENT[name]}
    _check_inputs(command, wanted, kind)
    if not given <= wanted.accepted:
        field = min(given - wanted.accepted)
        accepted = ", ".join(sorted(wanted.accepted)) or "none of these fields"
        raise Refused(Refusal.FIELD_NOT_ACCEPTED, f"{field}: not taken here; taken are {accepted}")
    if command.inputs:
        given |= command.inputs.keys()
    for need in wanted.needed:
        if given.isdisjoint(need.split("|")):
            if need == "amount":
                raise Refused(Refusal.AMOUNT_NOT_POSITIVE, "amount: expected a whole number above 0")
            raise Refused(Refusal.FIELD_MISSING, f"{need.replace('|', ' or ')}: missing")
    _check_number("amount", command.amount, AMOUNT_MAX, Refusal.AMOUNT_OVERFLOWS)
    _check_number("timeout", command.timeout, UINT32_MAX, Refusal.FIELD_INVALID)
    _check_number("business_time", command.business_time, TIME_MAX, Refusal.FIELD_INVALID)
    for field in ("payer", "payee", "reverses"):
        if not 0 <= getattr(command, field) < ids.ID_MAX:
            raise Refused(Refusal.FIELD_INVALID, f"{field}: not an id")
    if command.payer and command.payer == command.payee:
        raise Refused(
            Refusal.PARTIES_MUST_BE_DIFFERENT, "payee: a Move to oneself; payer and payee must differ"
        )
    for field in ("tender", "reason"):
        _check_part(field, getattr(command, field))
    if command.reference is not None and (fault := text_fault("reference", command.reference)):
        raise Refused(Refusal.FIELD_INVALID, fault)
    if command.reference == "":
        raise Refused(Refusal.FIELD_INVALID, "reference: empty; leave it out instead")


def reference_is_valid(payer: int, reference: str) -> bool:
    """Whether a Move can have this payer and reference, so that it makes sense to look for it."""
    return 0 <= payer < ids.ID_MAX and not text_fault("reference", reference)


def metadata_bytes(command: MoveCommand) -> bytes:
    """The metadata as JSON, b"" for none."""
    if not command.metadata:
        return b""
    packed = document_bytes(command.metadata)
    if isinstance(packed, str):
        raise Refused(Refusal.FIELD_INVALID, f"metadata: {packed}")
    return packed


def line_facts(lines: Lines, rule: LineRule, reason: str, directory: Directory) -> LineFacts:
    """The lines, with Things as asset numbers, checked against what the kind expects."""
    count = _check_columns("lines", lines, LINES_MAX)
    accepted = {*rule.needs, *rule.takes, *rule.columns}
    for name in _LINE_FIELDS:
        if getattr(lines, name) and name not in accepted:
            raise Refused(
                Refusal.FIELD_NOT_ACCEPTED, f"lines.{name}: taken are {', '.join(sorted(accepted))}"
            )
    for name in rule.needs:
        if not (lines.columns.get(name) if name in rule.columns else getattr(lines, name)):
            raise Refused(Refusal.FIELD_MISSING, f"lines.{name}: missing")
    for name in ("quantities", "amounts"):
        _check_column(f"lines.{name}", getattr(lines, name), rule.signed)
    if rule.contra:
        reasons = [own or reason for own in lines.reasons] or [reason] * count
        _check_reasons(reasons, rule)
    else:
        reasons = lines.reasons
    _check_orders(lines)
    return LineFacts(
        things=_things(lines.things, directory, "things" in rule.needs),
        quantities=lines.quantities,
        amounts=lines.amounts,
        orders=[ids.id_bytes(order) if order else NO_ID for order in lines.orders],
        order_lines=lines.order_lines,
        reasons=reasons,
        columns=_own_columns(lines, rule, count),
    )


def _own_columns(lines: Lines, rule: LineRule, count: int) -> dict[str, list[int | str]]:
    """The columns of the kind's own, those that are given."""
    for name, column in lines.columns.items():
        where = f"lines.{name}"
        if name not in rule.columns:
            known = ", ".join(sorted(rule.columns)) or "none"
            raise Refused(Refusal.FIELD_NOT_ACCEPTED, f"{where}: columns of this kind's own are {known}")
        if len(column) != count:
            raise Refused(Refusal.LINES_INVALID, f"{where}: {len(column)} values where others have {count}")
        if isinstance(rule.columns[name], int):
            _check_column(where, column, rule.signed)
        else:
            for text in dict.fromkeys(column):
                if not isinstance(text, str) or not text:
                    raise Refused(Refusal.FIELD_INVALID, f"{where}: {text!r}; expected a text")
                _check_part(where, text)
    return lines.columns


def leg_rows(legs: JournalLegs, directory: Directory) -> Rows:
    """Journal legs as rows."""
    _check_columns("legs", legs, LINES_MAX)
    _check_column("legs.amounts", legs.amounts, signed=False)
    if 0 in legs.amounts:
        where = legs.amounts.index(0) + 1
        raise Refused(Refusal.AMOUNT_NOT_POSITIVE, f"legs.amounts: leg {where} is 0; expected more")
    return Rows(
        _assets("legs.assets", legs.assets, directory),
        {"leg.amount": legs.amounts},
        {"leg.debit": legs.debits, "leg.credit": legs.credits},
    )


def paired_rows(entries: JournalEntries, directory: Directory) -> Rows:
    """One-sided entries as rows of legs: debits and credits of each asset, each in order, matched as they
    come.
    """
    _check_entries(entries)
    assets = _assets("entries.assets", entries.assets, directory)
    by_asset: dict[int, tuple[list[list[int]], list[list[int]]]] = {}
    for row, (asset, side) in enumerate(zip(assets, entries.sides, strict=True)):
        sides = by_asset.setdefault(asset, ([], []))
        sides[side == Side.CREDIT].append([row, entries.amounts[row]])
    legs: list[tuple[int, int, int, int]] = []
    for asset, (debits, credits) in by_asset.items():
        debited, credited = sum(amount for _, amount in debits), sum(amount for _, amount in credits)
        if debited != credited:
            code = directory.thing(asset).code
            raise Refused(
                Refusal.NOT_BALANCED,
                f"entries: {code} has debits of {debited} and credits of {credited}; they must be equal",
            )
        legs += _paired(asset, debits, credits)
    accounts = entries.accounts
    return Rows(
        [asset for asset, _, _, _ in legs],
        {"leg.amount": [amount for _, _, _, amount in legs]},
        {
            "leg.debit": [accounts[debit] for _, debit, _, _ in legs],
            "leg.credit": [accounts[credit] for _, _, credit, _ in legs],
        },
    )


def entry_rows(entries: JournalEntries, directory: Directory) -> Rows:
    """One-sided entries as rows with signed amounts: debits above 0, credits below."""
    _check_entries(entries)
    pairs = zip(entries.amounts, entries.sides, strict=True)
    return Rows(
        _assets("entries.assets", entries.assets, directory),
        {"entry.amount": [-amount if side == Side.CREDIT else amount for amount, side in pairs]},
        {"entry.account": entries.accounts},
    )


def _paired(asset: int, debits: list[list[int]], credits: list[list[int]]) -> list[tuple[int, int, int, int]]:
    """Legs (asset, debit row, credit row, amount) from (row, amount) of both sides; the sums are equal."""
    legs = []
    at = 0
    for debit, whole in debits:
        left = whole
        while left:
            credit, available = credits[at]
            amount = min(left, available)
            if amount:
                legs.append((asset, debit, credit, amount))
            left -= amount
            credits[at][1] -= amount
            if not credits[at][1]:
                at += 1
    return legs


def _check_entries(entries: JournalEntries) -> None:
    _check_columns("entries", entries, LINES_MAX)
    _check_column("entries.amounts", entries.amounts, signed=False)
    for row, side in enumerate(entries.sides, 1):
        if side not in (Side.DEBIT, Side.CREDIT):
            raise Refused(
                Refusal.FIELD_INVALID, f"entries.sides: entry {row} is {side!r}, not debit or credit"
            )


def _check_columns(name: str, columns: Any, most: int) -> int:
    """All columns are equally long or empty; their length."""
    fields = _LINE_FIELDS if isinstance(columns, Lines) else columns.__struct_fields__
    lengths = {field: len(getattr(columns, field)) for field in fields}
    count = max(lengths.values())
    if not count:
        raise Refused(Refusal.LINES_INVALID, f"{name}: empty; expected one or more")
    if count > most:
        raise Refused(Refusal.LINES_INVALID, f"{name}: {count} of them; at most {most} are accepted")
    optional = isinstance(columns, Lines)
    for field, length in lengths.items():
        if length != count and not (optional and not length):
            raise Refused(Refusal.LINES_INVALID, f"{name}.{field}: {length} values where others have {count}")
    return count


def _check_column(name: str, values: Sequence[Any], signed: bool) -> None:
    """Whole numbers, in range, and with a sum in range."""
    if not values:
        return
    if set(map(type, values)) != {int}:
        at, value = next((at, value) for at, value in enumerate(values, 1) if type(value) is not int)
        raise Refused(Refusal.FIELD_INVALID, f"{name}: number {at} is {value!r}; expected a whole number")
    if not signed and min(values) < 0:
        at = next(at for at, value in enumerate(values, 1) if value < 0)
        raise Refused(Refusal.AMOUNT_NEGATIVE, f"{name}: number {at} is {values[at - 1]}; expected 0 or more")
    if sum(map(abs, values)) > AMOUNT_MAX:
        raise Refused(Refusal.AMOUNT_OVERFLOWS, f"{name}: the sum is beyond {AMOUNT_MAX}")


def _check_number(field: str, value: int, most: int, overflow: Refusal) -> None:
    if type(value) is not int:
        raise Refused(Refusal.FIELD_INVALID, f"{field}: {value!r} is not a whole number")
    if value < 0:
        code = Refusal.AMOUNT_NEGATIVE if field == "amount" else Refusal.FIELD_INVALID
        raise Refused(code, f"{field}: {value} is below 0")
    if value > most:
        raise Refused(overflow, f"{field}: {value} is beyond {most}")


def _check_part(field: str, text: str) -> None:
    if text and (len(text) > TEXT_MAX or PART.fullmatch(text) is None):
        accepted = f"1 to {TEXT_MAX} letters, digits and _ . ~ -"
        raise Refused(Refusal.FIELD_INVALID, f"{field}: {text[:TEXT_MAX]!r}; expected {accepted}")


def _check_inputs(command: MoveCommand, wanted: Wanted, kind: CompiledKind) -> None:
    for name, value in command.inputs.items():
        if name in wanted.roles:
            _check_role(name, value)
            continue
        default = wanted.inputs.get(name)
        if default is None:
            known = ", ".join(sorted([*wanted.inputs, *wanted.roles])) or "none"
            raise Refused(Refusal.FIELD_NOT_ACCEPTED, f"inputs: unknown {name!r}; taken here are {known}")
        if type(value) is not type(default):
            raise Refused(Refusal.FIELD_INVALID, f"inputs: {name} is {value!r}; expected {_kind_of(default)}")
        if isinstance(value, int):
            _check_number(f"inputs.{name}", value, AMOUNT_MAX, Refusal.AMOUNT_OVERFLOWS)
        elif name not in kind.input_keys:
            _check_part(f"inputs.{name}", value)
        elif value[:1] not in CLASSES:
            raise Refused(
                Refusal.ACCOUNT_KEY_INVALID, f"inputs: {name} is {value!r}; expected an account key"
            )


def _check_role(name: str, value: int | str) -> None:
    if not isinstance(value, str) or ids.UUID_PATTERN.fullmatch(value) is None:
        raise Refused(
            Refusal.FIELD_INVALID, f"inputs: {name} is {value!r}; expected an id, a UUID in lower case"
        )
    if not 0 < ids.parse_id(value) < ids.ID_MAX:
        raise Refused(Refusal.FIELD_INVALID, f"inputs: {name} is {value}, which is no id")


def _kind_of(default: int | str) -> str:
    return "text" if isinstance(default, str) else "a whole number"


def _check_reasons(reasons: list[str], rule: LineRule) -> None:
    for row, reason in enumerate(reasons, 1):
        if reason not in rule.contra:
            code = Refusal.FIELD_INVALID if reason else Refusal.FIELD_MISSING
            accepted = ", ".join(sorted(rule.contra))
            raise Refused(code, f"reason: line {row} has {reason!r}; accepted are {accepted}")


def _check_orders(lines: Lines) -> None:
    if not lines.orders and not lines.order_lines:
        return
    if len(lines.orders) != len(lines.order_lines):
        raise Refused(Refusal.LINES_INVALID, "lines: orders and order_lines go together")
    for row, (order, line) in enumerate(zip(lines.orders, lines.order_lines, strict=True), 1):
        if (
            type(line) is not int
            or not 0 <= order < ids.ID_MAX
            or not 0 <= line <= LINES_MAX
            or (not order) != (not line)
        ):
            raise Refused(
                Refusal.LINES_INVALID,
                f"lines: line {row} reverses line {line!r} of order {order!r}; both or neither (0)",
            )


def _things(codes: Sequence[str], directory: Directory, needed: bool) -> list[int]:
    assets = directory.assets(codes)
    if 0 in assets:
        for row, (code, asset) in enumerate(zip(codes, assets, strict=True), 1):
            if not asset and (code or needed):
                raise Refused(
                    Refusal.THING_NOT_FOUND, f"lines.things: line {row}: no Thing has the code {code!r}"
                )
    return assets


def _assets(field: str, codes: Sequence[str], directory: Directory) -> list[int]:
    assets = directory.assets(codes)
    if 0 in assets:
        row = assets.index(0)
        raise Refused(
            Refusal.ASSET_NOT_FOUND, f"{field}: number {row + 1}: no Thing has the code {codes[row]!r}"
        )
    return assets
