"""Transfers through TigerBeetle's client for Python, on an interpreter that has it.

    python - ADDRESS ACCOUNTS TRANSFERS BATCH < tigerbeetle_client.py

It needs nothing else, ours least of all. What is sent is made before the clock starts; two batches are on
their way at a time. Prints {"rate": transfers a second}.
"""

import asyncio
import json
import random
import sys
import time
from typing import Any

import tigerbeetle as tb  # type: ignore[import-not-found,unused-ignore]  # of another interpreter

DEPTH = 2
SEED = 19
AMOUNT_LIMIT = 100_000


def account(id: int) -> Any:
    """An account without limits."""
    return tb.Account(
        id=id,
        debits_pending=0,
        debits_posted=0,
        credits_pending=0,
        credits_posted=0,
        user_data_128=0,
        user_data_64=0,
        user_data_32=0,
        ledger=1,
        code=1,
        flags=0,
        timestamp=0,
    )


def transfer(chance: random.Random, accounts: int) -> Any:
    """A transfer between two different accounts."""
    debit = chance.randrange(accounts)
    return tb.Transfer(
        id=tb.id(),
        debit_account_id=debit + 1,
        credit_account_id=(debit + chance.randrange(1, accounts)) % accounts + 1,
        amount=chance.randrange(1, AMOUNT_LIMIT),
        pending_id=0,
        user_data_128=0,
        user_data_64=0,
        user_data_32=0,
        timeout=0,
        ledger=1,
        code=1,
        flags=0,
        timestamp=0,
    )


async def main(address: str, accounts: int, transfers: int, batch: int) -> None:
    """Make accounts, send transfers, and see that they are there."""
    chance = random.Random(SEED)
    made = [account(number + 1) for number in range(accounts)]
    sent = [transfer(chance, accounts) for _ in range(transfers)]
    batches = iter([sent[start : start + batch] for start in range(0, transfers, batch)])
    async with tb.ClientAsync(cluster_id=0, replica_addresses=address) as client:
        for start in range(0, accounts, batch):
            await client.create_accounts(made[start : start + batch])

        async def send() -> None:
            for part in batches:
                await client.create_transfers(part)

        started = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(DEPTH)))
        seconds = time.perf_counter() - started
        debited = 0
        for start in range(0, accounts, batch):
            found = await client.lookup_accounts([item.id for item in made[start : start + batch]])
            debited += sum(item.debits_posted for item in found)
        if debited != sum(item.amount for item in sent):
            sys.exit("not all transfers are there")
    print(json.dumps({"rate": transfers / seconds}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
