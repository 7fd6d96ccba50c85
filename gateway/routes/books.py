"""What must be true of the ledger as a whole."""

from typing import Annotated, Final

from litestar import get
from litestar.params import QueryParameter

from gateway.openapi import answers
from gateway.routes.parameters import EngineOf, WaitLsn, read_after
from gateway.schemas import TrialBalance, TrialBalanceLine
from gateway.wire import Answer, Balance, Instant, Sum

EXAMPLE: Final = {
    "balanced": True,
    "lines": [
        {
            "asset": "GBP",
            "accounts": 4372,
            "debits": 974774793,
            "credits": 974774793,
            "difference": 0,
            "debits_pending": 0,
            "credits_pending": 0,
        }
    ],
}


@get(
    "/v1/trial-balance",
    tags=["Books"],
    summary="Debits and credits of every asset",
    responses=answers(TrialBalance, EXAMPLE),
)
async def trial_balance(
    engine: EngineOf,
    at: Annotated[Instant | None, QueryParameter(description="As of this recording time.")] = None,
    wait_lsn: WaitLsn = None,
) -> Answer[TrialBalance]:
    """Summed over all accounts but roll-ups. Every difference is 0, or the books are wrong."""
    await read_after(engine, wait_lsn)
    lines = [
        TrialBalanceLine(
            asset=engine.asset_code(row.asset),
            accounts=row.accounts,
            debits=Sum(row.debits),
            credits=Sum(row.credits),
            difference=Balance(row.debits - row.credits),
            debits_pending=Sum(row.debits_pending),
            credits_pending=Sum(row.credits_pending),
        )
        for row in await engine.queries.trial_balance(at)
    ]
    return Answer(TrialBalance(balanced=not any(line.difference for line in lines), lines=lines))


handlers: Final = (trial_balance,)
