"""What README.md has to be pasted into a shell does what it says, and within five minutes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from gateway.listener import bind
from persistence.database import Database
from tests.faults.served import ROOT, environment

HEADING: Final = "### Five minutes"
BOUND_S: Final = 240
END_S: Final = 30
SETUP: Final = "make setup\n"
END: Final = "kill $(jobs -p)\n"
WAIT: Final = r"""
until grep -q 'received .*"transfer"' told && [ "$(grep -c 'move.created' told)" -ge 3 ]; do sleep 0.1; done
"""
"""The receiver has the transfer, and the stream has both Moves. A line may begin with what curl printed."""


def pasted() -> str:
    """The blocks of the section, one after the other."""
    readme = (ROOT / "README.md").read_text()
    section = readme.partition(HEADING)[2].partition("\n## ")[0]
    return "".join(re.findall(r"```bash\n(.*?)```", section, re.DOTALL))


def free_port() -> int:
    with bind("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])


def test_the_readme_leads_to_a_move_a_stream_and_a_webhook(database: Database, tmp_path: Path) -> None:
    text = pasted()
    assert text.startswith(SETUP)
    assert text.endswith(END)
    port, receiver = free_port(), free_port()
    script = text.removeprefix(SETUP).removesuffix(END).replace("tessera serve", "tessera serve --port 8330")
    script = re.sub("8330|8331", lambda found: str({"8330": port, "8331": receiver}[found[0]]), script)
    folder = Path(sys.executable).parent
    variables = environment(
        TESSERA_DATABASE_URL=database.dsn, TESSERA_URL=f"http://127.0.0.1:{port}", COLUMNS="250"
    )
    started = time.monotonic()
    with (tmp_path / "told").open("wb") as told:
        shell = subprocess.Popen(
            ["bash", "-euc", f"{script}{WAIT}{END}wait"],
            cwd=tmp_path,
            env={**variables, "PATH": f"{folder}:{variables['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            shell.wait(BOUND_S)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGTERM)
            shell.wait(END_S)
    said = (tmp_path / "told").read_text()
    assert shell.returncode == 0, said
    assert "3750 posted, 3750 available" in said
    assert time.monotonic() - started < BOUND_S
