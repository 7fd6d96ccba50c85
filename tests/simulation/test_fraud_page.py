"""What docs/fraud.md says to type works as it stands there, with fewer payments."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from simulations.fraud.commands import fraud
from tests.simulation.test_fraud_cycles import write_market

PAGE = (Path(__file__).parents[2] / "docs" / "fraud.md").read_text()
FEWER = ["--customers", "120", "--terminals", "400", "--days", "140", "--radius", "10", "--seed", "1"]


def blocks(language: str) -> list[str]:
    """The page's blocks of a language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return found


def test_the_page_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (rules,) = blocks("json")
    Path("rules.json").write_text(rules)
    market = Path("amlsim/20K_cycle200")
    market.mkdir(parents=True)
    write_market(market, np.random.default_rng(1), rings=30)
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert [line.split()[2] for line in commands] == ["world", "evaluate", "features", "backtest", "cycles"]
    for line in commands:
        arguments = shlex.split(line)[2:]
        done = CliRunner().invoke(fraud, arguments + (FEWER if arguments[0] == "world" else []))
        assert done.exit_code == 0, f"{line}\n{done.output}"
    assert Path("curves/curves.png").is_file()


def test_the_python_of_the_page_runs() -> None:
    (program,) = blocks("python")
    names: dict[str, object] = {}
    exec(program, names)  # noqa: S102  # the page's own program
    matrix = names["matrix"]
    assert isinstance(matrix, np.ndarray)
    assert matrix[:, 0].tolist() == [1, 2, 2, 2]
    assert matrix[:3].tolist()[2][1:3] == [1200.0, 1.0]
    assert matrix[3, 3] > 100
