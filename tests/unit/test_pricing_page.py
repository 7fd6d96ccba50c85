"""The worked examples of docs/pricing.md come out as they are written there."""

import re
from pathlib import Path
from typing import Any

import msgspec

from engine.policies.quote import Quote
from engine.policies.sentences import sentences
from tests.policy_orders import order, quoted

PAGE = Path(__file__).parents[2] / "docs" / "pricing.md"
BLOCK = re.compile(r"^```(json|text) ([a-z ]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown(quote: Quote) -> list[str]:
    """A quote as the page has it."""
    lines = [*sentences(quote)]
    lines += [f"{line.kind} {line.thing} {line.amount}" for line in quote.lines]
    lines.append(f"total {quote.total}")
    lines += [f"subsidy {quote.subsidy}", f"payable {quote.payable}"] * bool(quote.subsidy)
    return lines + ([f"verdict {quote.verdict}"] if quote.verdict != "allow" else [])


def test_the_examples_come_out_as_written() -> None:
    policies: dict[str, Any] = {}
    request: dict[str, Any] = {}
    examples = 0
    for language, title, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "text":
            names = title.split()[1:]
            facts = {name: value for name, value in request.items() if name != "lines"}
            lines = [(line["thing"], line["quantity"], line.get("attrs", {})) for line in request["lines"]]
            assert (
                shown(quoted(order(*lines, **facts), *(policies[name] for name in names)))
                == text.splitlines()
            )
            examples += 1
        elif title == "order":
            request = msgspec.json.decode(text)
        else:
            policies[title] = msgspec.json.decode(text)
    assert examples == 5
