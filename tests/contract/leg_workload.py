"""Legs, accounts and commands that collide: few ids, few accounts, amounts at every limit, most nearly right.

A `Workload` draws from any `random.Random`, so a seed or Hypothesis can drive it. It looks at the reference
model to aim: at holds that are open, at amounts that just reach or just pass a guard, at ids that are burnt.
What it aims at may have changed when the leg arrives, which is the point.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, Final, TypeVar

import msgspec

from engine.ids import uuid7
from engine.layout import AMOUNT_MAX, CEILING_UNSET, FLOOR_UNSET, SECOND_NS, AccountFlag, HoldStatus, LegFlag
from engine.reference import ID_MAX, TIMESTAMP_MAX, Account, AccountState, Hold, Leg, ReferenceLedger
from tests.ledgers import Message

T = TypeVar("T")

EXTREMES: Final = (AMOUNT_MAX, AMOUNT_MAX - 1, -AMOUNT_MAX, -(2**63), -(2**63) + 1, 0)
TIMEOUT_MAX: Final = 2**32 - 1
ASSETS: Final = (1, 2)
LIFE_NS: Final = 10**6 * SECOND_NS
FREE_ACCOUNT_IDS: Final = tuple(range(31, 38))  # opened by Moves, or created late
CODES: Final = (1, 2)
RANDOM_62: Final = 2**62 - 1
LEG_FIELDS: Final = tuple(field for field in Leg.__struct_fields__ if field != "id")
ACCOUNT_FIELDS: Final = tuple(field for field in Account.__struct_fields__ if field != "id")


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What one ledger's life is like."""

    start: int = 1_700_000_000 * SECOND_NS  # when it begins, ns
    large_amounts: float = 0.02  # how many amounts are near the end of int64
    guards: float = 0.5  # how many accounts have them
    imports: float = 0.08  # how many blocks are imported
    repeats: float = 0.12  # how many legs were sent before
    mistakes: float = 0.22  # how many legs are spoilt
    chains: float = 0.07  # how many legs start a chain
    opens: float = 0.05  # how many chains open accounts
    moves: float = 0.1  # how many blocks are the engine's own


PROFILES: Final = (
    Profile(),
    Profile(large_amounts=0.12),
    Profile(guards=0.9, repeats=0.25),
    Profile(start=9_000_000_000 * SECOND_NS, imports=0.3),  # when the longest timeout ends beyond all time
)


class Workload:
    """Draws what to do next with one ledger."""

    def __init__(self, random: Random, reference: ReferenceLedger, profile: Profile) -> None:
        self.random = random
        self.reference = reference
        self.profile = profile
        self.now = profile.start
        self._sent: list[Leg] = []  # with new ids, oldest first
        self._sent_accounts: list[Account] = []
        self._look_around()

    # Time

    def let_time_pass(self) -> None:
        """Moves the clock: a little, to an expiry, to where timeouts end, and now and then backwards."""
        random = self.random
        kind = random.random()
        if kind < 0.3:
            self.now += random.choice((0, 1, 5, 1_000))
        elif kind < 0.5:
            self.now += random.randrange(3 * SECOND_NS)
        elif kind < 0.8:
            self.meet_expiry(random.choice((-1, 0, 0, 1, 10, 30, SECOND_NS)))
        elif kind < 0.83:
            self.now -= random.randrange(SECOND_NS)
        elif kind < 0.88:
            self.now += 100 * SECOND_NS
        elif kind < 0.93:
            self.now += (TIMESTAMP_MAX - self.now) % SECOND_NS - random.randrange(50)
        self.now = max(self.now, 1)

    def meet_expiry(self, later: int) -> None:
        """Moves the clock to when the next hold expires, or so much later, unless that is far away."""
        time = self.reference.next_expiry + later
        if self.now < time < self.profile.start + LIFE_NS:
            self.now = time

    # Accounts

    def first_accounts(self) -> list[Account]:
        """Roll-ups four levels deep with a second branch, and leaves at every level, for each asset."""
        accounts = []
        for asset in ASSETS:
            base = 100 * asset
            tree = {1: 0, 2: 1, 3: 2, 4: 3, 5: 1, 6: 5, 7: 4}
            for node, parent in tree.items():
                guards = self._guards() if self.random.random() < 0.3 else {}
                accounts.append(
                    self._new_account(
                        base + node,
                        asset,
                        parent=parent and base + parent,
                        flags=AccountFlag.ROLLUP,
                        **guards,
                    )
                )
            for leaf in range(11, 20):
                parent = self.random.choice((0, 0, 1, 2, 3, 4, 4, 5, 6))
                guards = self._guards() if self.random.random() < self.profile.guards else {}
                accounts.append(
                    self._new_account(base + leaf, asset, parent=parent and base + parent, **guards)
                )
        self._sent_accounts += accounts
        return accounts

    def account_batches(self) -> list[list[Account]]:
        """A few small batches of accounts: new, repeated, spoilt, linked, imported."""
        self._look_around()
        batches = []
        for _ in range(self.random.randint(1, 3)):
            batch = [self._account() for _ in range(self.random.randint(1, 6))]
            if self.random.random() < 0.4:
                batch = self._import(batch, AccountFlag.IMPORTED, self.reference.last["account"])
            for index in range(len(batch)):
                if self.random.random() < 0.2:
                    batch[index] = _with_flags(batch[index], AccountFlag.LINKED)
            batches.append(batch)
        return batches

    def guards(self) -> tuple[int, int, int]:
        """An account's ordinal and its new guards."""
        guards = self._guards()
        return (
            self.random.randrange(len(self.reference.ids)),
            guards.get("floor", FLOOR_UNSET),
            guards.get("ceiling", CEILING_UNSET),
        )

    def _guards(self) -> dict[str, int]:
        floors = (0, 0, 0, -100, -1_000, 50, FLOOR_UNSET, -AMOUNT_MAX)
        ceilings = (0, 0, 100, 1_000, -50, CEILING_UNSET, AMOUNT_MAX - 1)
        kind = self.random.random()
        if kind < 0.04:
            return {"floor": self.random.choice(EXTREMES), "ceiling": self.random.choice(EXTREMES)}
        guards = {}
        if kind < 0.6:
            guards["floor"] = self.random.choice(floors)
        if kind > 0.5:
            guards["ceiling"] = self.random.choice(ceilings)
        return guards

    def _new_account(self, id: int, asset: int, **more: Any) -> Account:
        return Account(
            **({"id": id, "asset": asset, "code": self.random.choice(CODES)} | self._user_data() | more)
        )

    def _account(self) -> Account:
        random = self.random
        if random.random() < 0.45:
            account = random.choice(self._sent_accounts)
            if random.random() < 0.6:
                return account
        else:
            parent = random.choice((0, 0, *self._rollups, *self._rollups))
            account = self._new_account(
                random.choice(FREE_ACCOUNT_IDS) if random.random() < 0.5 else random.getrandbits(128),
                self.reference.accounts[parent].asset if parent else random.choice(ASSETS),
                parent=parent,
                party=random.choice((0, 0, 1, ID_MAX)),
                flags=random.choice((0, 0, 0, AccountFlag.CLOSED, AccountFlag.ROLLUP)),
                **(self._guards() if random.random() < 0.3 else {}),
            )
            self._sent_accounts.append(account)
        if random.random() < 0.6:
            field = random.choice((*ACCOUNT_FIELDS, "id", "parent", "parent"))
            values: dict[str, Sequence[int]] = {
                "id": (0, ID_MAX, self._any_account()),
                "asset": (0, 1, 2, 3),
                "code": (0, 3),
                "parent": (0, self._any_account(), self._any_account(), ID_MAX, account.id),
                "flags": [account.flags ^ 1 << random.choice((0, 1, 2, 3, 4, 15))],
                "timestamp": (-1, 1, 5),
            }
            account = msgspec.structs.replace(
                account, **{field: random.choice(values.get(field, (0, 1, 77)))}
            )
        return account

    # Legs

    def block(self, legs_max: int, batch_max: int) -> tuple[list[Message], bool]:
        """The batches of one kernel call, and whether the engine itself made them."""
        self._look_around()
        of_moves = self.random.random() < self.profile.moves
        messages: list[Message] = []
        count = self.random.randint(1, legs_max)
        while count > 0:
            message = self._message(min(count, self.random.randint(1, batch_max)), of_moves)
            messages.append(message)
            if self.random.random() < 0.01:
                messages.append(Message([]))
            count -= len(message.legs)
        return messages, of_moves

    def _look_around(self) -> None:
        """Sorts what is there, so that drawing is quick."""
        accounts = self.reference.accounts
        leaves = [account for account in accounts.values() if not account.flags & AccountFlag.ROLLUP]
        self._ids = list(accounts)
        self._leaves = {asset: [a for a in leaves if a.asset == asset and not a.closed] for asset in ASSETS}
        self._closed = [account.id for account in leaves if account.closed]
        self._rollups = [account.id for account in accounts.values() if account.flags & AccountFlag.ROLLUP]
        holds = list(self.reference.holds.values())[-150:]
        self._open = [hold for hold in holds if hold.status == HoldStatus.OPEN]
        self._ending = sorted(
            (h for h in self._open if h.expiry), key=lambda h: abs((h.expiry or 0) - self.now)
        )[:3]
        self._closing = [hold for hold in self._open if self._closes(hold)]
        self._resolved = [hold for hold in holds if hold.status != HoldStatus.OPEN]
        known = list(self.reference.legs.values())[-300:]
        self._burnt = [fact.id for fact in known if fact.flags & LegFlag.BURNT]
        self._known = [fact.id for fact in known]
        self._importing = self.random.random() < self.profile.imports
        self._imported = 0  # the greatest stamp imported in the present block
        self._new: list[int] = []  # ids of the present block's legs
        self._fresh: list[Leg] = []  # pending legs of the present block
        self._accepted = [leg for leg in self._sent[-400:] if self._was_accepted(leg)]

    def _was_accepted(self, leg: Leg) -> bool:
        known = self.reference.legs.get(leg.id)
        return known is not None and not known.flags & LegFlag.BURNT

    def _closes(self, hold: Hold) -> bool:
        closing = LegFlag.CLOSING_DEBIT | LegFlag.CLOSING_CREDIT
        return bool(self.reference.legs[hold.id].flags & closing)

    def _message(self, count: int, of_moves: bool) -> Message:
        random, profile = self.random, self.profile
        legs = [self._leg(of_moves) for _ in range(count)]
        if random.random() < (0.9 if self._importing else 0.01):
            legs = self._import(legs, LegFlag.IMPORTED, self.reference.last["leg"])
        opens: list[tuple[int, Account]] = []
        index = 0
        while index < count:
            end = index
            if random.random() < profile.chains:
                end = min(index + random.randint(1, 5), count if random.random() < 0.06 else count - 1)
                for member in range(index, end):
                    legs[member] = _with_flags(legs[member], LegFlag.LINKED)
            if random.random() < profile.opens:
                opens += [(index, self._open_account()) for _ in range(random.randint(1, 3))]
                legs[index] = self._use_account(legs[index], opens[-1][1])
            while index < count and legs[index].linked:
                index += 1
            index += 1
        return Message(legs, opens)

    def _open_account(self) -> Account:
        guards = self._guards() if self.random.random() < 0.5 else {}
        return Account(
            id=self.random.choice(FREE_ACCOUNT_IDS)
            if self.random.random() < 0.6
            else self.random.getrandbits(120),
            asset=self.random.choice(ASSETS),
            code=1,
            party=self.random.randrange(3),
            **guards,
        )

    def _use_account(self, leg: Leg, account: Account) -> Leg:
        if leg.flags & (LegFlag.POST_PENDING | LegFlag.VOID_PENDING):
            return leg
        side = self.random.choice(("debit", "credit"))
        return msgspec.structs.replace(leg, **{side: account.id})

    def _import(self, events: list[Any], flag: int, last: int) -> list[Any]:
        """Gives events timestamps of their own: mostly rising from the last one to now, sometimes not."""
        random = self.random
        last = max(last, self._imported)
        room = max(self.now - last, 4) if random.random() < 0.8 else 4
        stamps = sorted(last + random.randrange(1, room) for _ in events)
        self._imported = stamps[-1]
        imported = []
        for event, rising in zip(events, stamps, strict=True):
            stamp, wrong = rising, random.random()
            if wrong < (0.04 if isinstance(event, Leg) else 0.25):
                taken = (
                    *list(self.reference.stamps_of_accounts)[-5:],
                    *list(self.reference.stamps_of_legs)[-5:],
                    1,
                )
                ends = [hold.expiry or 0 for hold in self._ending]
                stamp = random.choice((last, self.now, self.now + 5, 0, -1, AMOUNT_MAX, *taken, *ends))
            changes = {"timestamp": stamp}
            if isinstance(event, Leg) and random.random() < 0.8:
                changes["timeout"] = 0
            if wrong > 0.03:
                changes["flags"] = event.flags | flag
            imported.append(msgspec.structs.replace(event, **changes))
        return imported

    def _leg(self, of_moves: bool) -> Leg:
        random, profile = self.random, self.profile
        if random.random() < profile.repeats and self._sent and not of_moves:
            return self._repeat()
        leg = self._resolving(of_moves) if random.random() < 0.3 else self._placing(of_moves)
        if random.random() < profile.mistakes:
            leg = self._spoil(leg, of_moves)
            if random.random() < 0.3:
                leg = self._spoil(leg, of_moves)
        self._sent.append(leg)
        self._new.append(leg.id)
        if leg.flags & LegFlag.PENDING:
            self._fresh.append(leg)
        return leg

    def _new_id(self, of_moves: bool) -> int:
        random = self.random
        kind = random.random()
        if of_moves or kind < 0.75:
            return uuid7(self._milliseconds(0), random.randrange(4096), random.randrange(RANDOM_62))
        if kind < 0.9:
            skew = random.choice((-86_400_000, -70_000, -60_000, -1, 1, 30_000, 60_000, 60_001, 90_000))
            return uuid7(self._milliseconds(skew), random.randrange(4096), random.randrange(RANDOM_62))
        return random.randrange(1, 60) if kind < 0.95 else random.getrandbits(128)

    def _milliseconds(self, skew: int) -> int:
        return max(0, self.now // 1_000_000 + skew)

    def _user_data(self) -> dict[str, int]:
        random = self.random
        if random.random() < 0.7:
            return {}
        return {
            "user_data_128": random.choice((0, 1, ID_MAX)),
            "user_data_64": random.choice((0, 1, 2**64 - 1)),
            "user_data_32": random.choice((0, 1, 2**32 - 1)),
        }

    def _placing(self, of_moves: bool) -> Leg:
        """A leg that is no post or void, with nothing wrong about it by itself."""
        random = self.random
        asset = random.choice(ASSETS)
        leaves = self._leaves[asset]
        if len(leaves) < 2:
            return Leg(id=self._new_id(of_moves), debit=1, credit=2, amount=1, asset=asset, code=1)
        debit, credit = random.sample(leaves, 2)
        kind = random.random()
        flags, timeout = 0, 0
        if kind < 0.33:
            flags = int(LegFlag.PENDING)
            longest = (TIMESTAMP_MAX - self.now) // SECOND_NS
            timeout = min(random.choice((0, 0, 1, 1, 2, 3, 60, longest, longest + 1)), TIMEOUT_MAX)
            if random.random() < 0.07:
                flags |= random.choice((64, 128, 192))
        if random.random() < 0.2:
            flags |= random.choice((16, 32, 32, 48))
        conditions = {}
        if random.random() < 0.1:
            conditions["if_debit_version"] = debit.version + random.choice((0, 0, 0, 1, 2, -1))
        if random.random() < 0.1:
            conditions["if_credit_version"] = credit.version + random.choice((0, 0, 0, 1, 2, -1))
        return Leg(
            id=self._new_id(of_moves),
            debit=debit.id,
            credit=credit.id,
            amount=self._amount(debit, credit),
            asset=asset,
            code=random.choice(CODES),
            flags=flags | (LegFlag.OF_MOVE if of_moves and random.random() < 0.8 else 0),
            timeout=timeout,
            **self._user_data(),
            **conditions,
        )

    def _amount(self, debit: AccountState, credit: AccountState) -> int:
        random = self.random
        kind = random.random()
        if kind < self.profile.large_amounts:
            return random.choice(
                (AMOUNT_MAX, AMOUNT_MAX - 1, 2**62, 2**62 + 1, 2**62 - 1, random.getrandbits(63))
            )
        if kind < 0.7:
            return random.randrange(120)
        limits = (
            debit.above_floor - debit.floor,
            credit.ceiling - credit.below_ceiling,
            debit.above_floor,
            -credit.below_ceiling,
            AMOUNT_MAX - debit.debits_posted,
            AMOUNT_MAX - debit.debits_posted - debit.debits_pending,
            AMOUNT_MAX - credit.credits_posted - credit.credits_pending,
        )
        limit = random.choice(limits[: 4 if kind < 1 - self.profile.large_amounts else 7]) + random.choice(
            (0, 0, 1, -1)
        )
        return limit if 0 <= limit <= AMOUNT_MAX else random.choice((0, 1, 7))

    def _resolving(self, of_moves: bool) -> Leg:
        """A post or void, mostly of a hold that was open when the block was drawn."""
        random = self.random
        flags = random.choice((4, 4, 4, 516, 516, 8, 8))
        kind = random.random()
        asset = code = debit = credit = 0
        held = random.randrange(120)
        if kind < 0.15 and self._fresh:
            pending = random.choice(self._fresh)
            target, held = pending.id, pending.amount
        elif kind < 0.25 and self._resolved:
            hold = random.choice(self._resolved)
            target, held = hold.id, hold.held
        elif kind < 0.35 and self._closing:
            hold = random.choice(self._closing)
            target, held, flags = hold.id, hold.held, 8
        elif kind < 0.93 and self._open:
            hold = random.choice(self._open if kind < 0.8 else self._ending or self._open)
            target, held = hold.id, hold.held
            if random.random() < 0.15:
                debit, credit = hold.debit, hold.credit
                asset, code = self.reference.accounts[debit].asset, self.reference.legs[target].code
        elif kind < 0.97 and self._known:
            target = random.choice(self._known)
        else:
            target = random.choice((self._new_id(False), random.choice(self._burnt or [7]), 12345))
        near = (held, held // 2, held // 3, max(held - 1, 0), min(held + 1, AMOUNT_MAX))
        amounts: tuple[int, ...] = (0, AMOUNT_MAX, AMOUNT_MAX, *near)
        if flags == LegFlag.VOID_PENDING:
            amounts = (0, held)
        if random.random() < 0.05:
            amounts = near
        return Leg(
            id=self._new_id(of_moves),
            debit=debit,
            credit=credit,
            amount=random.choice(amounts),
            asset=asset,
            code=code,
            flags=flags | (LegFlag.OF_MOVE if of_moves and random.random() < 0.8 else 0),
            pending_id=target,
            if_debit_version=random.choice((0,) * 19 + (random.randrange(1, 50),)),
            if_credit_version=random.choice((0,) * 19 + (random.randrange(1, 50),)),
            **self._user_data(),
        )

    def _repeat(self) -> Leg:
        """A leg that was sent before, as it was, said in another way, or with a field changed."""
        random = self.random
        leg = random.choice(self._sent[-40:] if random.random() < 0.5 else self._sent)
        if random.random() < 0.7:
            leg = random.choice(self._accepted or self._sent)
        kind = random.random()
        if kind < 0.4:
            return leg
        known = self.reference.legs.get(leg.id)
        if kind < 0.6 and known and not known.flags & LegFlag.BURNT:
            literal = known.held if leg.flags & LegFlag.VOID_PENDING else known.amount
            accounts = self.reference.ids
            return msgspec.structs.replace(
                leg,
                amount=random.choice((literal, literal + 1 if literal < AMOUNT_MAX else 0, AMOUNT_MAX, 0)),
                debit=random.choice((leg.debit, accounts[known.debit])),
                credit=random.choice((leg.credit, accounts[known.credit])),
                user_data_64=random.choice((leg.user_data_64, known.user_data_64)),
            )
        return self._change_field(leg, random.choice(LEG_FIELDS))

    def _spoil(self, leg: Leg, of_moves: bool) -> Leg:
        """The leg with something wrong, or at least unexpected."""
        random = self.random
        kind = random.random()
        if of_moves and kind < 0.1 and self._new:
            return msgspec.structs.replace(leg, id=random.choice(self._new))
        if kind < 0.05 and self._burnt and not of_moves:
            return msgspec.structs.replace(leg, id=random.choice(self._burnt))
        if kind < 0.1 and self._known and not of_moves:
            return msgspec.structs.replace(leg, id=random.choice(self._known))
        if kind < 0.13:
            return msgspec.structs.replace(leg, id=random.choice((0, ID_MAX)))
        return self._change_field(leg, random.choice((*LEG_FIELDS, "debit", "credit", "flags", "pending_id")))

    def _change_field(self, leg: Leg, field: str) -> Leg:
        random = self.random
        value: int
        if field in ("debit", "credit"):
            value = self._odd_account(leg)
        elif field == "flags":
            value = leg.flags ^ 1 << random.choice((0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 10, 13, 14, 15))
        elif field == "pending_id":
            value = random.choice((0, 0, ID_MAX, leg.id, random.choice(self._known or [9])))
        elif field == "amount":
            value = random.choice((-1, 0, leg.amount - 1, leg.amount + 1, AMOUNT_MAX, -(2**63)))
            value = max(min(value, AMOUNT_MAX), -(2**63))
        elif field == "timeout":
            value = random.choice((0, 1, 1, TIMEOUT_MAX))
        elif field == "timestamp":
            value = random.choice((-1, 1, self.now, AMOUNT_MAX))
        elif field in ("asset", "code"):
            value = random.choice((0, 0, 1, 2, 3))
        elif field.startswith("if_"):
            value = random.choice((-1, 1, 2, 3, AMOUNT_MAX))
        else:
            value = random.choice((0, 1, 5))
        return msgspec.structs.replace(leg, **{field: value})

    def _odd_account(self, leg: Leg) -> int:
        random = self.random
        kind = random.random()
        if kind < 0.1:
            return 0
        if kind < 0.18:
            return ID_MAX
        if kind < 0.26:
            return leg.credit
        if kind < 0.34:
            return leg.debit
        if kind < 0.5 and self._rollups:
            return random.choice(self._rollups)
        if kind < 0.66 and self._closed:
            return random.choice(self._closed)
        if kind < 0.8:
            return random.choice((1, 2, random.choice(FREE_ACCOUNT_IDS)))
        return self._any_account()

    def _any_account(self) -> int:
        return self.random.choice(self._ids or [1])


def _with_flags(event: Any, flags: int) -> Any:
    return msgspec.structs.replace(event, flags=event.flags | flags)
