"""The legs and accounts that a Move's command needs, gathered in plain lists, and turned into columns for the
kernel.

A `Draft` is cheap to fill: Python work is for each posting and key, not for each field of each leg.
`compile_block` does the rest in NumPy for many drafts at once: ids of accounts and legs, user data, chains.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine import ids
from engine.layout import LegColumns, LegFlag, OpenColumns, leg_columns, open_columns

INHERITED: Final = -1
"""In place of an account: a post or void takes the accounts of its hold."""

Lookup = Callable[[npt.NDArray[np.uint64]], npt.NDArray[np.int64]]
"""From account ids (n, 2) to rows, −1 for those that do not exist."""


class KeyRun(NamedTuple):
    """What some keys in a row have in common."""

    keys: int
    bucket: int
    party: int
    code: int
    floor: int
    ceiling: int


class Draft:
    """The legs of one command, in order, all of one chain, and the accounts they touch.

    Legs name accounts by their place in `account_keys`, and these name keys by their place in `keys`.
    """

    def __init__(self, request: int, move: int, seq: int, business_time: int, code: int) -> None:
        self.request = request
        self.move = move
        self.seq = seq
        self.business_time = business_time
        self.code = code
        self.timeout = 0  # of its holds, in seconds
        self.keys: list[str] = []
        self.hashes: list[bytes] = []  # of each key
        self.key_runs: list[KeyRun] = []  # together as long as keys
        self.account_keys: list[int] = []
        self.account_assets: list[int] = []
        self.debits: list[int] = []  # accounts, or INHERITED
        self.credits: list[int] = []
        self.amounts: list[int] = []
        self.leg_runs: list[tuple[int, int]] = []  # count and flags; together as long as amounts
        self.pending: list[tuple[int, int]] = []  # leg → the hold that it resolves
        self._key_places: dict[str, int] = {}
        self._accounts: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.amounts)

    def key_place(self, key: str) -> int:
        """The place of a key that is here already, else −1."""
        return self._key_places.get(key, -1)

    def add_key(self, key: str, hash: bytes, run: KeyRun) -> int:
        """Note a key, and return its place."""
        place = self._key_places[key] = len(self.keys)
        self.keys.append(key)
        self.hashes.append(hash)
        self.key_runs.append(run)
        return place

    def add_keys(self, keys: list[str], hashes: list[bytes], runs: Sequence[KeyRun]) -> int:
        """Note many keys, all new, and return the place of the first."""
        place = len(self.keys)
        self.keys += keys
        self.hashes += hashes
        self.key_runs += runs
        return place

    def account(self, key: int, asset: int) -> int:
        """The account of a key and an asset."""
        found = self._accounts.get((key, asset))
        if found is None:
            found = self._accounts[key, asset] = len(self.account_keys)
            self.account_keys.append(key)
            self.account_assets.append(asset)
        return found

    def accounts(self, keys: Sequence[int], assets: list[int]) -> range:
        """Accounts of many keys and assets; the same one may come twice."""
        first = len(self.account_keys)
        self.account_keys += keys
        self.account_assets += assets
        return range(first, len(self.account_keys))

    def add_legs(self, debits: Sequence[int], credits: Sequence[int], amounts: list[int], flags: int) -> None:
        """Append legs with the same flags."""
        self.debits += debits
        self.credits += credits
        self.amounts += amounts
        self.leg_runs.append((len(amounts), flags))

    def account_key(self, account: int) -> str:
        """The key of one of its accounts, "" for an inherited one."""
        return "" if account == INHERITED else self.keys[self.account_keys[account]]


class MoveBlock(NamedTuple):
    """Legs of many commands, each a chain, and the accounts to be opened for them if they do not exist.

    Draft k has legs `offsets[k]` to `offsets[k + 1]`. `keys[i]` is the account key of open i. The columns are
    one client's batch, or as many batches as there are drafts.
    """

    legs: LegColumns
    opens: OpenColumns
    keys: list[str]
    offsets: npt.NDArray[np.int64]


def compile_block(drafts: Sequence[Draft], lookup: Lookup | None = None) -> MoveBlock:
    """Columns for the kernel. With `lookup`, accounts that exist are not among the opens."""
    leg_counts = _counts(len(draft.amounts) for draft in drafts)
    account_counts = _counts(len(draft.account_keys) for draft in drafts)
    key_counts = _counts(len(draft.keys) for draft in drafts)
    offsets = np.concatenate(([0], np.cumsum(leg_counts)))
    account_bases = np.cumsum(account_counts) - account_counts
    key_bases = np.cumsum(key_counts) - key_counts

    account_keys = _joined(draft.account_keys for draft in drafts) + np.repeat(key_bases, account_counts)
    account_assets = _joined(draft.account_assets for draft in drafts).astype(np.uint32)
    runs = [run for draft in drafts for run in draft.key_runs]
    run_of_account = np.repeat(np.arange(len(runs)), _counts(run.keys for run in runs))[account_keys]
    hashes = ids.key_hashes([hash for draft in drafts for hash in draft.hashes])
    buckets = np.array([run.bucket for run in runs], np.uint64)[run_of_account]
    account_ids = ids.account_ids(buckets, hashes[account_keys], account_assets)

    legs = _legs(drafts, leg_counts, account_ids, account_assets, np.repeat(account_bases, leg_counts))
    opened = np.arange(len(account_ids)) if lookup is None else np.flatnonzero(lookup(account_ids) < 0)
    of_run = run_of_account[opened]
    parties = [run.party for run in runs]
    opens = open_columns(
        len(opened),
        before=np.repeat(offsets[:-1], account_counts)[opened],
        id=account_ids[opened],
        party=_wide(parties)[of_run],
        asset=account_assets[opened],
        code=np.array([run.code for run in runs], np.uint16)[of_run],
        floor=np.array([run.floor for run in runs], np.int64)[of_run],
        ceiling=np.array([run.ceiling for run in runs], np.int64)[of_run],
    )
    keys = list(chain.from_iterable(draft.keys for draft in drafts))
    return MoveBlock(legs, opens, [keys[place] for place in account_keys[opened].tolist()], offsets)


def _legs(
    drafts: Sequence[Draft],
    counts: npt.NDArray[np.int64],
    account_ids: npt.NDArray[np.uint64],
    account_assets: npt.NDArray[np.uint32],
    bases: npt.NDArray[np.int64],
) -> LegColumns:
    total = len(bases)
    debits = _joined(draft.debits for draft in drafts)
    credits = _joined(draft.credits for draft in drafts)
    flags = _flags(drafts, counts)
    given: dict[str, npt.ArrayLike] = {}
    inherited = debits == INHERITED
    if inherited.any():
        # One more row of zeros stands for "as the hold has it".
        nowhere = len(account_ids)
        account_ids = np.concatenate([account_ids, np.zeros((1, 2), np.uint64)])
        account_assets = np.concatenate([account_assets, np.zeros(1, np.uint32)])
        debits = np.where(inherited, nowhere, debits + bases)
        credits = np.where(inherited, nowhere, credits + bases)
        given["pending_id"] = _pending_ids(drafts, counts, total)
    else:
        debits = debits + bases
        credits = credits + bases
    if any(draft.timeout for draft in drafts):
        timeouts = np.repeat(np.array([draft.timeout for draft in drafts], np.uint32), counts)
        holding = flags & np.uint16(LegFlag.PENDING) != 0
        given["timeout"] = np.where(holding, timeouts, np.uint32(0))
    return leg_columns(
        total,
        id=ids.leg_ids_of_many([draft.request for draft in drafts], counts),
        debit=account_ids[debits],
        credit=account_ids[credits],
        amount=_joined(draft.amounts for draft in drafts),
        asset=account_assets[debits],
        code=np.repeat(np.array([draft.code for draft in drafts], np.uint16), counts),
        flags=flags,
        user_data_128=np.repeat(_wide([draft.move for draft in drafts]), counts, axis=0),
        user_data_64=np.repeat(np.array([draft.business_time for draft in drafts], np.uint64), counts),
        user_data_32=np.repeat(np.array([draft.seq for draft in drafts], np.uint32), counts),
        **given,
    )


def _flags(drafts: Sequence[Draft], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """The flags of all legs; those of one draft are a chain."""
    runs = [run for draft in drafts for run in draft.leg_runs]
    each = np.array([flags for _, flags in runs], np.uint16) | np.uint16(LegFlag.OF_MOVE | LegFlag.LINKED)
    flags = np.repeat(each, _counts(count for count, _ in runs))
    flags[np.cumsum(counts)[counts > 0] - 1] &= np.uint16(0xFFFF ^ LegFlag.LINKED)
    return flags


def _pending_ids(
    drafts: Sequence[Draft], counts: npt.NDArray[np.int64], total: int
) -> npt.NDArray[np.uint64]:
    pending = np.zeros((total, 2), np.uint64)
    for draft, start in zip(drafts, (np.cumsum(counts) - counts).tolist(), strict=True):
        for leg, hold in draft.pending:
            pending[start + leg] = hold >> 64, hold & (2**64 - 1)
    return pending


def _counts(counts: Any) -> npt.NDArray[np.int64]:
    return np.array(list(counts), np.int64)


def _joined(lists: Any) -> npt.NDArray[np.int64]:
    return np.array(list(chain.from_iterable(lists)), np.int64)


def _wide(values: list[int]) -> npt.NDArray[np.uint64]:
    """128-bit integers as a column; the high and low halves are split in Python once per value."""
    halves = np.empty((len(values), 2), np.uint64)
    halves[:, 0] = [value >> 64 for value in values]
    halves[:, 1] = [value & 0xFFFFFFFFFFFFFFFF for value in values]
    return halves
