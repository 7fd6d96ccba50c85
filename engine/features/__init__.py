"""Features of events over sliding windows: what a score is made of. Use it through `engine.features.store`.

An event has a time, an amount, and up to a few **subjects**: a party, a counterparty, an instrument. A
**feature** is a number about one subject and one **window** of time before the event: a count, a sum, a mean.
Windows are exact. Every sum is one of integers, and only what leaves the store is a float.

`definition` says which features there are; `state` how they lie in arrays; `subjects` and `pairs` find rows;
`windows` lets events come into windows and go out of them; `values` reads; `observing` is what Python calls.
"""
