"""From JSON objects to columns: legs and accounts as the kernel takes them."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from engine.layout import (
    CEILING_UNSET,
    FLOOR_UNSET,
    AccountColumns,
    AccountFlag,
    LegColumns,
    LegFlag,
    account_columns,
    ids_column,
    leg_columns,
)
from gateway.hot_legs import HotLeg
from gateway.schemas import BareAccountDraft, LegDraft

LEG_FLAGS: Final = {str(flag.name).lower(): flag.value for flag in LegFlag}
ACCOUNT_FLAGS: Final = {str(flag.name).lower(): flag.value for flag in AccountFlag}


def columns_of(legs: Sequence[LegDraft | HotLeg], assets: Mapping[str, int]) -> LegColumns:
    """The legs column by column; `assets` gives the numbers of the codes."""
    return leg_columns(
        len(legs),
        id=ids_column([leg.id.int for leg in legs]),
        debit=ids_column([_int(leg.debit) for leg in legs]),
        credit=ids_column([_int(leg.credit) for leg in legs]),
        amount=[leg.amount for leg in legs],
        asset=[assets[leg.asset] if leg.asset else 0 for leg in legs],
        code=[leg.code for leg in legs],
        flags=[sum({LEG_FLAGS[name] for name in leg.flags}) for leg in legs],
        pending_id=ids_column([_int(leg.pending_id) for leg in legs]),
        timeout=[leg.timeout for leg in legs],
        user_data_128=ids_column([_int(leg.user_data_128) for leg in legs]),
        user_data_64=[leg.user_data_64 or 0 for leg in legs],
        user_data_32=[leg.user_data_32 for leg in legs],
        timestamp=[leg.timestamp or 0 for leg in legs],
        if_debit_version=[leg.if_debit_version for leg in legs],
        if_credit_version=[leg.if_credit_version for leg in legs],
    )


def account_columns_of(drafts: Sequence[BareAccountDraft], assets: Mapping[str, int]) -> AccountColumns:
    """The accounts column by column; `assets` gives the numbers of the codes."""
    return account_columns(
        len(drafts),
        id=ids_column([draft.id.int for draft in drafts]),
        party=ids_column([_int(draft.party) for draft in drafts]),
        parent=ids_column([_int(draft.parent) for draft in drafts]),
        asset=[assets[draft.asset] for draft in drafts],
        code=[draft.code for draft in drafts],
        flags=[sum({ACCOUNT_FLAGS[name] for name in draft.flags}) for draft in drafts],
        floor=[FLOOR_UNSET if draft.floor is None else draft.floor for draft in drafts],
        ceiling=[CEILING_UNSET if draft.ceiling is None else draft.ceiling for draft in drafts],
        user_data_128=ids_column([_int(draft.user_data_128) for draft in drafts]),
        user_data_64=[draft.user_data_64 or 0 for draft in drafts],
        user_data_32=[draft.user_data_32 for draft in drafts],
        timestamp=[draft.timestamp or 0 for draft in drafts],
    )


def _int(value: UUID | None) -> int:
    return value.int if value else 0
