"""Settings: what is given wins over the environment, and mistakes are named."""

from pathlib import Path

import msgspec
import pytest

from actors.settings import Settings


def test_without_anything_they_are_the_defaults() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert (settings.data_dir, settings.database_url) == (None, None)


def test_the_environment_is_read_by_type() -> None:
    settings = Settings.from_environment(
        {
            "TESSERA_DATA_DIR": "/data/books",
            "TESSERA_TENANT": "shop",
            "TESSERA_TAKEOVER": "true",
            "TESSERA_MAILBOX_MESSAGES_MAX": "12",
            "HOME": "/nowhere",
        }
    )
    assert settings == Settings(
        data_dir=Path("/data/books"), tenant="shop", takeover=True, mailbox_messages_max=12
    )


def test_what_is_given_wins_over_the_environment() -> None:
    environment = {"TESSERA_TENANT": "theirs", "TESSERA_IDS_PER_GENERATION": "64"}
    settings = Settings.from_environment(environment, tenant="ours", ids_per_generation=None)
    assert (settings.tenant, settings.ids_per_generation) == ("ours", 64)


@pytest.mark.parametrize(
    "given", [{"data_dir": Path("here")}, {"database_url": "postgresql://there"}], ids=["folder", "url"]
)
def test_a_database_that_is_given_wins_over_both_variables(given: dict[str, object]) -> None:
    environment = {"TESSERA_DATA_DIR": "elsewhere", "TESSERA_DATABASE_URL": "postgresql://elsewhere"}
    assert Settings.from_environment(environment, **given) == Settings(**given)  # type: ignore[arg-type]  # one of two


def test_two_databases_are_refused() -> None:
    both = {"TESSERA_DATA_DIR": "here", "TESSERA_DATABASE_URL": "postgresql://there"}
    with pytest.raises(ValueError, match="either a data directory or a database URL, not both"):
        Settings.from_environment(both)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TESSERA_IDS_PER_GENERATION", "many"),
        ("TESSERA_TAKEOVER", "perhaps"),
        ("TESSERA_TURN_WEIGHT_MAX", "1.5"),
    ],
)
def test_a_bad_variable_is_named(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=variable):
        Settings.from_environment({variable: value})


@pytest.mark.parametrize(
    "bound",
    [
        "mailbox_messages_max",
        "mailbox_weight_max",
        "turn_weight_max",
        "turns_in_flight_max",
        "projection_lag_legs_max",
        "ids_per_generation",
        "snapshot_legs",
    ],
)
def test_bounds_are_positive(bound: str) -> None:
    with pytest.raises(ValueError, match=f"{bound} must be at least 1, not 0"):
        Settings.from_environment({}, **{bound: 0})


def test_a_window_of_two_generations_is_too_small() -> None:
    with pytest.raises(ValueError, match="generations_max must be at least 3, not 2"):
        Settings(generations_max=2)


def test_a_turn_can_not_be_heavier_than_the_kernel_takes() -> None:
    with pytest.raises(ValueError, match="turn_weight_max must be at most"):
        Settings(turn_weight_max=1 << 20)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"mailbox": 1}, Settings)
