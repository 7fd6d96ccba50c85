"""What callers ask of Parties, Things and Moves, and the answers they get.

Commands and answers are frozen; ids are integers, 0 = none; times are nanoseconds; amounts are integers in
minor units. Lists come column by column, each as long as the others or empty. An expected refusal is an
answer with a `code`: the slug of a leg's result (`engine.results`), or one of `Refusal`.
"""

from enum import StrEnum
from typing import Any, Final

import msgspec

from engine.entities import Entry, Side
from engine.results import TRANSIENT

LINES_MAX: Final = 10_000
TEXT_BYTES_MAX: Final = 255
"""Names, codes and references, in bytes of UTF-8."""
DOCUMENT_BYTES_MAX: Final = 1 << 16
"""A Party's profile, a Thing's attributes and a Move's metadata, as JSON."""


class Refusal(StrEnum):
    """Why a command was refused before, or besides, the legs it would cause. Names are never reused."""

    ID_INVALID = "id_invalid"
    ID_IN_WRONG_BUCKET = "id_in_wrong_bucket"
    KIND_UNKNOWN = "kind_unknown"
    TRANSITION_UNKNOWN = "transition_unknown"
    FIELD_INVALID = "field_invalid"
    FIELD_MISSING = "field_missing"
    FIELD_NOT_ACCEPTED = "field_not_accepted"
    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    AMOUNT_NEGATIVE = "amount_negative"
    AMOUNT_OVERFLOWS = "amount_overflows"
    LINES_INVALID = "lines_invalid"
    ACCOUNT_KEY_INVALID = "account_key_invalid"
    PARTIES_MUST_BE_DIFFERENT = "parties_must_be_different"
    NOT_BALANCED = "not_balanced"
    PARTY_NOT_FOUND = "party_not_found"
    THING_NOT_FOUND = "thing_not_found"
    ASSET_NOT_FOUND = "asset_not_found"
    MOVE_NOT_FOUND = "move_not_found"
    MOVE_STATE_DIFFERS = "move_state_differs"
    MOVE_ENDED = "move_ended"
    MOVE_VERSION_DIFFERS = "move_version_differs"
    ORDER_NOT_ENDED = "order_not_ended"
    MOVE_NOT_ENDED = "move_not_ended"
    LIMIT_EXCEEDED = "limit_exceeded"
    NOTHING_TO_REVERSE = "nothing_to_reverse"
    REFERENCE_ALREADY_USED = "reference_already_used"
    EXISTS_WITH_DIFFERENT_CONTENT = "exists_with_different_content"
    PARTY_VERSION_DIFFERS = "party_version_differs"
    THING_CODE_ALREADY_USED = "thing_code_already_used"
    TURN_FULL = "turn_full"
    ASSETS_EXHAUSTED = "assets_exhausted"
    MONEY_OF_ANOTHER = "money_of_another"
    SHARD_UNAVAILABLE = "shard_unavailable"


TRANSIENT_CODES: Final = frozenset(
    {result.slug for result in TRANSIENT} | {Refusal.MOVE_VERSION_DIFFERS.value}
)
"""Refusals that could turn into a success later; their answer is kept, so a retry gets it again."""


class Lines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Move's lines. What each column means, and which are needed, is the kind's to say."""

    things: list[str] = []  # codes; "" = none
    quantities: list[int] = []
    amounts: list[int] = []  # of the whole line, not of one unit
    orders: list[int] = []  # refunds: the order whose line this one reverses, 0 = none that is known
    order_lines: list[int] = []  # and the number of that line, from 1
    reasons: list[str] = []  # adjustments: why, if not the same for all
    columns: dict[str, list[int | str]] = {}  # of the kind's own, by name


class JournalLegs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Legs by account key: one debit and one credit account each."""

    debits: list[str]
    credits: list[str]
    amounts: list[int]
    assets: list[str]  # codes


class JournalEntries(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One-sided lines by account key; they must balance for each asset (an opening is balanced for you)."""

    accounts: list[str]
    sides: list[Side]
    amounts: list[int]
    assets: list[str]  # codes


class MoveCommand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Create a Move (`move` = 0; `id` is then the Move's id too) or take one further.

    `transition` may name several, joined by "+" (`place+capture+fulfil`): they are taken in one step, all or
    none. Left empty, a creation takes its kind's usual first steps.
    """

    id: int  # of this request
    kind: str = ""
    move: int = 0
    transition: str = ""
    payer: int = 0
    payee: int = 0
    asset: str = ""  # code of the money
    amount: int = 0
    tender: str = ""  # how it is paid: names the account A:{tender}
    reason: str = ""
    lines: Lines | None = None
    legs: JournalLegs | None = None
    entries: JournalEntries | None = None
    reverses: int = 0
    reference: str | None = None
    metadata: dict[str, Any] | None = None
    inputs: dict[str, int | str] = {}  # whatever else the kind's postings name
    business_time: int = 0  # 0 = the time of recording
    timeout: int = 0  # seconds; for holds
    if_version: int = 0  # the version the Move must have; 0 = any
    bound_to: int = 0  # the Party whose Moves and money these are, or it is refused; 0 = anybody's
    due: bool = False  # the engine itself asks for it, because its time has come


class MoveAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a MoveCommand."""

    request: int
    move: int
    kind: str
    state: str  # of the Move now; "" if there is none
    seq: int
    version: int
    timestamp: int
    code: str = ""  # "" = accepted
    message: str = ""
    replayed: bool = False  # this is the stored answer to an earlier, equal request
    ended: bool = False
    unmatched_quantity: int = 0  # of lines that reverse nothing known
    unmatched_amount: int = 0
    leg_count: int = 0
    lsn: int = 0  # position in the log, filled in by the shard

    @property
    def accepted(self) -> bool:
        """Whether the Move was changed, now or (`replayed`) earlier."""
        return not self.code

    @property
    def status(self) -> str:
        """`accepted` or `refused`."""
        return "refused" if self.code else "accepted"


class MovePreview(msgspec.Struct, frozen=True, kw_only=True):
    """What a MoveCommand would do if it were sent now."""

    state: str = ""  # of the Move after it
    entries: list[Entry] = []
    code: str = ""  # why it would be refused; "" = it would be accepted
    message: str = ""


class NextStep(msgspec.Struct, frozen=True, kw_only=True):
    """A transition of a Move's kind, and whether it could be taken now."""

    name: str
    target: str  # the state it leads to; "" if it does not lead on from here
    needs: list[str] = []  # fields that the request must have; `a|b` = one of them
    takes: list[str] = []  # and those it may have
    code: str = ""  # why it would be refused now; "" = it would be accepted
    message: str = ""


class NextSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Where a Move stands, and where it can go from there."""

    move: int
    kind: str = ""
    state: str = ""
    version: int = 0
    steps: list[NextStep] = []  # every transition of the kind that a client may take somewhere
    code: str = ""  # why nothing can be said
    message: str = ""
    lsn: int = 0


class CreateParty(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Register a Party. Its id makes this idempotent."""

    id: int
    kind: str
    name: str = ""
    profile: dict[str, Any] = {}


class UpdateParty(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give a Party this name and profile. Idempotent: what is so already is not written again."""

    id: int
    name: str = ""
    profile: dict[str, Any] = {}
    if_version: int = 0  # the version the Party must have; 0 = any


class CreateThing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Add a Thing to the catalogue. Its id makes this idempotent; its asset number is given by the engine."""

    id: int
    kind: str
    code: str
    exponent: int = 0
    name: str = ""
    attrs: dict[str, Any] = {}


class DirectoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command on Parties or Things."""

    id: int
    version: int = 0
    asset: int = 0  # a Thing's
    timestamp: int = 0
    code: str = ""  # "" = accepted
    message: str = ""
    replayed: bool = False
    lsn: int = 0  # filled in by the shard

    @property
    def accepted(self) -> bool:
        """Whether it is so, now or (`replayed`) already."""
        return not self.code
