"""Whether the books have all that was acknowledged, once."""

from actors.settings import Settings
from gateway.options import run
from persistence.database import Database
from simulations.benchmarks.served import prove
from simulations.failover.clients import CHAIN_CODE, CHAIN_LEGS, Clients
from simulations.failover.stage import Stage

_MOVES = b"select id, amount from move where kind = 'transfer' and seq = 0"
_CHAINS = b"select id from leg where code = %s"


async def _rows(settings: Settings, query: bytes, *parameters: object) -> list[tuple[object, ...]]:
    with Database(settings.database) as database:
        async with database.session("failover") as session:
            return await (await session.execute(query, parameters or None)).fetchall()


def judge(stage: Stage, clients: Clients) -> str:
    """The hash of the books, which are in order. Raises AssertionError or CommandFailed if they are not.

    Every client got an answer to everything that it sent, so what the books have is what was acknowledged,
    neither more nor less.
    """
    moves = run(_rows(stage.settings, _MOVES))
    assert {str(id): amount for id, amount in moves} == clients.transfers, "lost, or doubled"
    assert len(moves) == len(clients.transfers)
    legs = [id for (id,) in run(_rows(stage.settings, _CHAINS, CHAIN_CODE))]
    assert len(legs) == len(clients.chains), "a chain is lost, doubled, or half there"
    assert set(legs) == set(clients.chains)
    assert len(legs) % CHAIN_LEGS == 0
    return prove(stage.folder).books
