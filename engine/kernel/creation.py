"""Creating accounts: batches and chains like those of legs, with checks of their own."""

from typing import Any, Final

import numpy as np
from numba import types

from engine.kernel.accounts import add_account, drop_accounts, find_account, levels_above
from engine.kernel.batches import are_offsets
from engine.kernel.compiled import entry, part, seldom
from engine.kernel.facts import copy_scalars
from engine.kernel.form import is_zero, judge_id, judge_message
from engine.kernel.shapes import (
    ACCOUNT_COUNT,
    ACCOUNT_FACTS,
    BOOKS_TYPE,
    DROPPED_LEG,
    INT64_INPUT,
    LAST_LEG,
    LAST_TIMESTAMP,
    column_of,
    columns_type,
)
from engine.kernel.window import is_stamp_of_leg
from engine.layout import (
    ACCOUNT_COLUMN_SPEC,
    ACCOUNT_FLAGS_OF_CLIENTS,
    ROLLUP_LEVELS_MAX,
    AccountColumns,
    AccountFlag,
)
from engine.results import Result

_LINKED: Final = int(AccountFlag.LINKED)
_IMPORTED: Final = int(AccountFlag.IMPORTED)
_ROLLUP: Final = int(AccountFlag.ROLLUP)
_ALLOWED: Final = int(ACCOUNT_FLAGS_OF_CLIENTS)
_LEVELS: Final = int(ROLLUP_LEVELS_MAX)
_ZERO: Final = np.uint64(0)


@seldom
def judge_repeat(b: Any, c: Any, i: Any, account: Any) -> Any:
    """The first difference between what is asked for and the account as it is now, or `EXISTS`."""
    if c.flags[i] != account.flags:
        return Result.EXISTS_WITH_DIFFERENT_FLAGS.value
    if c.floor[i] != account.floor:
        return Result.EXISTS_WITH_DIFFERENT_FLOOR.value
    if c.ceiling[i] != account.ceiling:
        return Result.EXISTS_WITH_DIFFERENT_CEILING.value
    wide = c.user_data_128
    if wide[i, 0] != account.user_data_128_hi or wide[i, 1] != account.user_data_128_lo:
        return Result.EXISTS_WITH_DIFFERENT_USER_DATA_128.value
    if c.user_data_64[i] != account.user_data_64:
        return Result.EXISTS_WITH_DIFFERENT_USER_DATA_64.value
    if c.user_data_32[i] != account.user_data_32:
        return Result.EXISTS_WITH_DIFFERENT_USER_DATA_32.value
    if c.asset[i] != account.asset:
        return Result.EXISTS_WITH_DIFFERENT_ASSET.value
    if c.code[i] != account.code:
        return Result.EXISTS_WITH_DIFFERENT_CODE.value
    if c.party[i, 0] != account.party_hi or c.party[i, 1] != account.party_lo:
        return Result.EXISTS_WITH_DIFFERENT_PARTY.value
    parent_hi, parent_lo = _ZERO, _ZERO
    if account.parent >= 0:
        parent = b.accounts[account.parent]
        parent_hi, parent_lo = parent.id_hi, parent.id_lo
    if c.parent[i, 0] != parent_hi or c.parent[i, 1] != parent_lo:
        return Result.EXISTS_WITH_DIFFERENT_PARENT.value
    return Result.EXISTS.value


@part
def judge_parent(b: Any, c: Any, i: Any, row: Any) -> Any:
    """Whether the account in `row`, −1 if there is none, may be the parent."""
    if row < 0:
        return Result.PARENT_NOT_FOUND.value
    parent = b.accounts[row]
    if not parent.flags & _ROLLUP:
        return Result.PARENT_MUST_BE_ROLLUP.value
    if parent.asset != c.asset[i]:
        return Result.PARENT_MUST_HAVE_THE_SAME_ASSET.value
    if levels_above(b, row) + 1 > _LEVELS:
        return Result.PARENT_TOO_DEEP.value
    return Result.CREATED.value


@seldom
def regresses(b: Any, timestamp: Any) -> Any:
    """Whether an imported account's timestamp is not after the last account, or is a leg's own.

    The stamps of legs that were dropped are not known here, so the time they cover is closed to imports.
    """
    s = b.scalars
    count = s[ACCOUNT_COUNT]
    if count > 0 and timestamp <= b.accounts[count - 1].timestamp:
        return True
    if timestamp > s[LAST_LEG]:
        return False
    return timestamp <= s[DROPPED_LEG] or is_stamp_of_leg(b, timestamp)


@part
def judge_account(b: Any, c: Any, i: Any, stamp: Any, batch_time: Any, batch_imported: Any, fact: Any) -> Any:
    """The answer to account `i` of the columns `c`; fills in the fact if it can be created."""
    flags = np.int64(c.flags[i])
    imported = (flags & _IMPORTED) != 0
    code = judge_message(imported, batch_imported, c.timestamp[i], batch_time)
    if code == 0 and flags & ~_ALLOWED:
        code = Result.RESERVED_FLAG.value
    if code == 0:
        code = judge_id(c.id, i)
    if code != 0:
        return code
    row = find_account(b, c.id[i, 0], c.id[i, 1])
    if row >= 0:
        fact.timestamp = b.accounts[row].timestamp
        return judge_repeat(b, c, i, b.accounts[row])
    if c.asset[i] == 0:
        return Result.ASSET_MUST_NOT_BE_ZERO.value
    if c.code[i] == 0:
        return Result.CODE_MUST_NOT_BE_ZERO.value
    parent = np.int64(-1)
    if not is_zero(c.parent, i):
        parent = find_account(b, c.parent[i, 0], c.parent[i, 1])
        code = judge_parent(b, c, i, parent)
        if code != 0:
            return code
    if imported and regresses(b, c.timestamp[i]):
        return Result.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS.value
    fill_account(c, i, parent, c.timestamp[i] if imported else stamp, fact)
    return Result.CREATED.value


@part
def fill_account(c: Any, i: Any, parent: Any, timestamp: Any, fact: Any) -> None:
    """The fact of an account that can be created."""
    fact.id_hi = c.id[i, 0]
    fact.id_lo = c.id[i, 1]
    fact.floor = c.floor[i]
    fact.ceiling = c.ceiling[i]
    fact.timestamp = timestamp
    fact.party_hi = c.party[i, 0]
    fact.party_lo = c.party[i, 1]
    fact.user_data_128_hi = c.user_data_128[i, 0]
    fact.user_data_128_lo = c.user_data_128[i, 1]
    fact.user_data_64 = c.user_data_64[i]
    fact.user_data_32 = c.user_data_32[i]
    fact.asset = c.asset[i]
    fact.parent = parent
    fact.code = c.code[i]
    fact.flags = c.flags[i]


@seldom
def undo_chain(
    b: Any, status: Any, timestamps: Any, start: Any, culprit: Any, stamp: Any, created: Any
) -> None:
    """Takes back the `created` newest accounts, and answers for the chain's members before its culprit."""
    drop_accounts(b, b.scalars[ACCOUNT_COUNT] - created)
    copy_scalars(b.saved, b.scalars)
    for i in range(start, culprit):
        status[i] = Result.LINKED_EVENT_FAILED.value
        timestamps[i] = stamp - (culprit - i)


@entry(
    BOOKS_TYPE,
    columns_type(AccountColumns, ACCOUNT_COLUMN_SPEC),
    INT64_INPUT,
    types.int64,
    column_of(types.uint8),
    column_of(types.int64),
    ACCOUNT_FACTS,
    column_of(types.int64),
    returns=types.int64,
)
def create_accounts(
    b: Any, c: Any, offsets: Any, now: Any, status: Any, timestamps: Any, facts: Any, indices: Any
) -> Any:
    """Judges and adds batches of accounts; returns how many were created, −1 if the offsets do not fit."""
    s = b.scalars
    if not are_offsets(offsets, c.asset.size):
        return np.int64(-1)
    created = np.int64(0)
    for batch in range(offsets.size - 1):
        start, end = offsets[batch], offsets[batch + 1]
        if start == end:
            continue
        batch_time = max(now, s[LAST_TIMESTAMP] + end - start)
        batch_imported = (c.flags[start] & _IMPORTED) != 0
        chain: Any = np.int64(-1)  # its first account, −1 = none
        broken = False
        created_before = created
        for i in range(start, end):
            stamp = batch_time - end + i + 1
            linked = (c.flags[i] & _LINKED) != 0
            if chain < 0 and linked:
                chain = i
                copy_scalars(s, b.saved)
                created_before = created
            fact = facts[created]
            if linked and i == end - 1:
                code = Result.LINKED_EVENT_CHAIN_OPEN.value
            elif broken:
                code = Result.LINKED_EVENT_FAILED.value
            else:
                code = judge_account(b, c, i, stamp, batch_time, batch_imported, fact)
            status[i] = code
            known = code == Result.CREATED.value or code == Result.EXISTS.value
            timestamps[i] = fact.timestamp if known else stamp
            if code == Result.CREATED.value:
                add_account(b, fact)
                indices[created] = i
                created += 1
            elif chain >= 0 and not broken:
                undo_chain(b, status, timestamps, chain, i, stamp, created - created_before)
                created = created_before
                broken = True
            if not linked:
                chain = np.int64(-1)
                broken = False
    return created
