"""A kind that somebody adds as the manual says: one file, and nothing else."""

import re
from pathlib import Path

import pytest

from actors.runtime import Engine
from engine.commands import MoveCommand
from engine.kinds import KindError
from persistence.database import Database
from tests.fixtures_engine import Shop, settings_of

MANUAL = Path(__file__).parents[2] / "docs" / "kinds.md"


def example() -> str:
    """The file that the manual shows."""
    (block,) = re.findall(r"```toml\n(.*?)```", MANUAL.read_text(), re.S)
    return str(block)


@pytest.mark.parametrize("shards", [1, 2])
async def test_kind_of_the_manual_works(database: Database, tmp_path: Path, shards: int) -> None:
    (tmp_path / "booking.toml").write_text(example())
    settings = settings_of(database, shards=shards, kinds=tmp_path)
    async with Engine.running(settings) as engine:
        shop = await Shop.opened(engine, funds=100)
        booking = MoveCommand(
            id=shop.command_id(shop.buyer),
            kind="booking",
            transition="deposit",
            payer=shop.buyer,
            payee=shop.seller,
            asset="GBP",
            amount=60,
        )
        assert (await shop.do(booking)).state == "deposited"

        def cancel(kept_back: int) -> MoveCommand:
            inputs: dict[str, int | str] = {"kept_back": kept_back}
            id = shop.command_id(move=booking.id)
            return MoveCommand(id=id, move=booking.id, transition="cancel", inputs=inputs)

        too_much = await shop.one(cancel(61))
        assert (too_much.code, too_much.message) == (
            "limit_exceeded",
            "cancel: more than the deposit can't be kept",
        )
    async with Engine.running(settings) as engine:  # it is still known, and so is its Move
        shop.engine = engine
        assert (await shop.do(cancel(20))).ended
        assert (await shop.balance(shop.buyer), await shop.balance(shop.seller)) == (80, 20)
        assert (await engine.verify()).ok


async def test_a_file_that_is_no_kind_is_refused_with_its_place(database: Database, tmp_path: Path) -> None:
    settings = settings_of(database, kinds=tmp_path)
    file = tmp_path / "booking.toml"
    for text, says in (
        ("name = ", "booking.toml.*not TOML"),
        (example().replace("{payee}", "{host}", 1), "transition 'arrive', posting 1.*unknown name {host}"),
        (example().replace("code = 100", "code = 3"), "3 is the code of kind 'order'"),
    ):
        file.write_text(text)
        with pytest.raises(KindError, match=says):
            await Engine.open(settings)
    with pytest.raises(KindError, match="names a folder"):
        await Engine.open(settings_of(database, kinds=file))
