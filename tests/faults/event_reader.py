"""A reader of events in a process of its own, to be killed: it writes the id of each event to a file, then to
its output, and when it starts it goes on after the last one that stands in the file.

    python -m tests.faults.event_reader URL FILE
"""

import os
import sys
from pathlib import Path

from gateway.client import Client, Retry


def main(url: str, file: Path) -> None:
    """Read until the end of this process."""
    with file.open("a+b") as output:
        output.seek(0)
        whole = output.read()
        whole = whole[: whole.rfind(b"\n") + 1]  # the last line may be cut
        output.truncate(len(whole))
        after = whole.splitlines()[-1].decode() if whole else "start"
        with Client(url, retry=Retry(first_s=0.01, longest_s=0.05)) as client:
            for event in client.events(after=after):
                line = event["id"].encode() + b"\n"
                os.write(output.fileno(), line)
                os.write(sys.stdout.fileno(), line)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
