"""The posting kernel: the compiled half of the ledger. Use it through `engine.ledger`.

`shapes` says how state lies in arrays; `index`, `window`, `holds` and `accounts` each own a part of it;
`judge` decides without changing anything; `posting` runs batches and chains; `replay` applies facts without
judging; `audit` checks the invariants. A live leg and a replayed one go through the same `facts.apply`.
"""
