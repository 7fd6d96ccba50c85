"""The chart of accounts: what a key says, which guards its account has by default, and whose it is.

A key is `class:purpose/subject[/sub…]`, and any part may carry a lot: `A:ar/{party}#2024-17`. The class is
one letter; purpose and lots are free. Key and asset together name one account, everywhere and for ever, so an
account's owner must follow from its key alone: from the class and purpose (the rules below) and from the
Party or Move that the key names.

Guards stand here in *normal* terms: a floor of 0 on `I:owned` means that nobody owns fewer than no units. The
kernel counts credits − debits, so for debit-normal classes it gets them mirrored (`Guards.in_kernel_terms`).
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from engine import ids
from engine.layout import CEILING_UNSET, FLOOR_UNSET, PAIR_CODE
from engine.placement import ONE_SHARD, Placement

KEY_LENGTH_MAX: Final = 200
KEY_PARTS_MAX: Final = 6
CACHED_ACCOUNTS_MAX: Final = 1 << 16
"""Accounts of plain keys that a chart keeps ready; the cache is emptied when it is full."""

_PART: Final = r"[A-Za-z0-9][A-Za-z0-9_.~-]*(?:#[A-Za-z0-9][A-Za-z0-9_.~-]*)?"
_KEY: Final = re.compile(rf"[A-Z]:{_PART}(?:/{_PART})*")
PART: Final = re.compile(_PART)
"""What may stand between the slashes of a key."""
_SHAPE: Final = "class:purpose/subject[/sub][#lot], letters, digits and _ . ~ - only, as in L:tax/de"


class ChartError(ValueError):
    """An account key that the chart does not accept. The message says what it would accept."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"account key {self.key!r}: {self.reason}"


class AccountClass(NamedTuple):
    """One letter of the chart. Codes leave room between classes; they are stored in accounts for ever."""

    letter: str
    code: int
    name: str
    credit_normal: bool


CLASSES: Final[Mapping[str, AccountClass]] = {
    item.letter: item
    for item in (
        AccountClass("A", 1000, "asset", False),
        AccountClass("L", 2000, "liability", True),
        AccountClass("E", 3000, "foreign exchange position", False),
        AccountClass("R", 4000, "revenue", True),
        AccountClass("X", 5000, "expense", False),
        AccountClass("M", 6000, "memo", False),
        AccountClass("I", 7000, "units and rights", False),
        AccountClass("C", PAIR_CODE, "pair of shards", True),
    )
}


PAIR_CLASS: Final = "C"
"""Accounts C:{other} of each shard, by which its own books balance; see engine.crossing."""
_DEBIT_NORMAL: Final = frozenset(item.code for item in CLASSES.values() if not item.credit_normal)


def credit_normal(code: int) -> bool:
    """Whether accounts of this code count credits as their balance; those outside the chart do."""
    return code not in _DEBIT_NORMAL


class Owner(Enum):
    """How the owner of an account follows from its key."""

    PLATFORM = "the platform"
    PARTY = "the Party that the key names after the purpose"
    SECOND_PARTY = "the Party that the key names in its second part"
    MOVE = "the payer of the Move that the key names after the purpose"
    ANY = "the Party that the key names, if it names one, else the platform"


class Guards(NamedTuple):
    """Bounds of an account's balance on its normal side; None = open."""

    floor: int | None = None
    ceiling: int | None = None

    def in_kernel_terms(self, credit_normal: bool) -> tuple[int, int]:
        """Floor and ceiling of credits − debits, with the kernel's values for none."""
        low, high = self.floor, self.ceiling
        if not credit_normal:
            low, high = _negated(high), _negated(low)
        return FLOOR_UNSET if low is None else low, CEILING_UNSET if high is None else high


class Rule(NamedTuple):
    """What holds for the accounts of a purpose."""

    owner: Owner
    guards: Guards


class ParsedKey(NamedTuple):
    """A key in its parts; `parts[0]` is the purpose, and each part is (name, lot or "")."""

    klass: AccountClass
    parts: tuple[tuple[str, str], ...]

    @property
    def purpose(self) -> str:
        """The part after the class, without its lot."""
        return self.parts[0][0]


class AccountSpec(NamedTuple):
    """Everything about an account that its key decides; with an asset it is a whole account."""

    key: str
    hash: bytes  # see engine.ids
    bucket: int
    party: int  # 0 = the platform, or not known from the key
    code: int
    floor: int  # kernel terms
    ceiling: int
    striped: bool = False  # every shard has a row of it, and its balance is their sum


OPEN: Final = Guards()
NOT_NEGATIVE: Final = Guards(floor=0)
NO_CREDIT: Final = Guards(floor=0, ceiling=0)
"""Nothing until somebody grants a limit by changing the account's guards."""

CLASS_RULES: Final[Mapping[str, Rule]] = {
    "A": Rule(Owner.PLATFORM, OPEN),
    "L": Rule(Owner.ANY, NOT_NEGATIVE),
    "E": Rule(Owner.PLATFORM, OPEN),
    "R": Rule(Owner.PLATFORM, OPEN),
    "X": Rule(Owner.PLATFORM, OPEN),
    "M": Rule(Owner.ANY, NOT_NEGATIVE),
    "I": Rule(Owner.ANY, NOT_NEGATIVE),
    "C": Rule(Owner.PLATFORM, OPEN),
}
"""For purposes without a rule of their own."""

_CONTRA: Final = Rule(Owner.PLATFORM, OPEN)


def purpose_rules(negative_limit: int = 0) -> dict[str, Rule]:
    """The standard rules, by `class:purpose` or, more precisely, by `class:purpose/*/sub`.

    `negative_limit` is how far below zero what is available to sellers and affiliates may fall.
    """
    of_party = {
        "L:": "wallet seller aff storecredit pts unapplied tip rep",
        "I:": "owned ent consumed coupon.used quota",
    }
    of_move = {
        "L:": "order refund deferred giftcard",
        "M:": "auth capt reversible budget budget.used",
        "I:": "reserved alloc transit coupon.held",
    }
    rules = {
        **{
            c + name: Rule(Owner.PARTY, NOT_NEGATIVE)
            for c, names in of_party.items()
            for name in names.split()
        },
        **{
            c + name: Rule(Owner.MOVE, NOT_NEGATIVE) for c, names in of_move.items() for name in names.split()
        },
    }
    may_fall = Rule(Owner.PARTY, Guards(floor=-negative_limit))
    return rules | {
        "A:ar": Rule(Owner.PARTY, OPEN),
        "A:dispute": Rule(Owner.MOVE, OPEN),
        "A:inventory": Rule(Owner.ANY, OPEN),
        "A:overdraft": Rule(Owner.PARTY, Guards(ceiling=0)),
        "M:credit": Rule(Owner.PARTY, NO_CREDIT),
        "L:payout": Rule(Owner.SECOND_PARTY, NOT_NEGATIVE),
        "L:tax": Rule(Owner.PLATFORM, OPEN),
        "L:seller/*/available": may_fall,
        "L:aff/*/available": may_fall,
        "I:world": Rule(Owner.PLATFORM, OPEN),
        "I:issued": Rule(Owner.PLATFORM, OPEN),
        "I:backlog": Rule(Owner.PLATFORM, OPEN),
    }


STANDARD_RULES: Final[Mapping[str, Rule]] = purpose_rules()


def parse_key(key: str) -> ParsedKey:
    """The parts of a key. Raises ChartError."""
    if len(key) > KEY_LENGTH_MAX:
        raise ChartError(key[:32] + "…", f"longer than {KEY_LENGTH_MAX} characters")
    if _KEY.fullmatch(key) is None:
        raise ChartError(key, f"expected {_SHAPE}")
    klass = CLASSES.get(key[0])
    if klass is None:
        known = ", ".join(f"{item.letter} ({item.name})" for item in CLASSES.values())
        raise ChartError(key, f"unknown class {key[0]}; the classes are {known}")
    parts = key[2:].split("/")
    if len(parts) > KEY_PARTS_MAX:
        raise ChartError(key, f"more than {KEY_PARTS_MAX} parts")
    return ParsedKey(klass, tuple((name, lot) for name, _, lot in (part.partition("#") for part in parts)))


class Chart:
    """The accounts of one tenant: from keys to ids, guards and owners. It holds no state but a cache."""

    def __init__(
        self,
        tenant: str,
        rules: Mapping[str, Rule] = STANDARD_RULES,
        platform_bucket: int = 0,
        placement: Placement = ONE_SHARD,
    ) -> None:
        self.tenant = tenant
        self.platform_bucket = platform_bucket  # where this shard keeps its rows of striped accounts
        self._placement = placement
        self._rules = rules
        self._ready: dict[str, AccountSpec] = {}  # specs by key, bounded by CACHED_ACCOUNTS_MAX

    def rule(self, parsed: ParsedKey) -> Rule:
        """The rule for a key: the most precise one that matches."""
        name = f"{parsed.klass.letter}:{parsed.purpose}"
        if len(parsed.parts) == 3 and (precise := self._rules.get(f"{name}/*/{parsed.parts[2][0]}")):
            return precise
        if (exact := self._rules.get(name)) is not None:
            return exact
        return _CONTRA if parsed.purpose.endswith(".contra") else CLASS_RULES[parsed.klass.letter]

    def account(self, key: str) -> AccountSpec:
        """What the key says. Raises ChartError for a malformed key, or one without the owner it needs."""
        if (ready := self._ready.get(key)) is not None:
            return ready
        parsed = parse_key(key)
        if parsed.klass.letter == PAIR_CLASS:
            raise ChartError(key, "accounts of pairs of shards are the engine's own")
        rule = self.rule(parsed)
        home, party = self._home(key, parsed, rule.owner)
        striped = home is None and rule.guards == OPEN
        if home is None:
            home = self.platform_bucket if striped else self._bucket_of_subject(parsed)
        floor, ceiling = rule.guards.in_kernel_terms(parsed.klass.credit_normal)
        hash = ids.key_hash(self.tenant, key)
        spec = AccountSpec(key, hash, home, party, parsed.klass.code, floor, ceiling, striped)
        if len(self._ready) >= CACHED_ACCOUNTS_MAX:
            self._ready.clear()
        self._ready[key] = spec
        return spec

    def account_id(self, key: str, asset: int) -> int:
        """The id of the account that a key and an asset name. Raises ChartError."""
        return ids.account_id(self.account(key).bucket, self.tenant, key, asset)

    def _home(self, key: str, parsed: ParsedKey, owner: Owner) -> tuple[int | None, int]:
        """Bucket and Party of the owner; no bucket if it is the platform."""
        if owner is Owner.PLATFORM:
            return None, 0
        place = 2 if owner is Owner.SECOND_PARTY else 1
        name = parsed.parts[place][0] if len(parsed.parts) > place else ""
        if ids.UUID_PATTERN.fullmatch(name) is None:
            if owner is Owner.ANY:
                return None, 0
            needed = "a Move's id" if owner is Owner.MOVE else "a Party's id"
            raise ChartError(
                key,
                f"{parsed.klass.letter}:{parsed.purpose} needs {needed} (a UUID in lower case) "
                f"as part {place} after the purpose, not {name!r}",
            )
        named = ids.parse_id(name)
        if owner is Owner.MOVE:
            return ids.bucket_of_id(named), 0
        return ids.bucket_of_party(self.tenant, named), named

    def _bucket_of_subject(self, parsed: ParsedKey) -> int:
        """Where a guarded account of the platform is: all that one subject has is in one place."""
        if self._placement.shards == 1:
            return self.platform_bucket
        subject = parsed.parts[1][0] if len(parsed.parts) > 1 else parsed.purpose
        return self._placement.bucket_of_name(self.tenant, subject)


def _negated(bound: int | None) -> int | None:
    return None if bound is None else -bound
