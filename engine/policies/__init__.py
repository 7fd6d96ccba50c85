"""What an order costs, and why: prices, promotions, fees, taxes, compliance, as data and pure functions.

A policy is a frozen struct, written as JSON and named by its version. `quote` runs the policies of an order
over its lines, in a fixed order, and answers with lines to be written on the Move and a trace of steps that
explains every amount. The same request with the same policies gives the same quote for ever: time, Party and
Things are in the request. Amounts are integers in minor units; rates are texts that become exact ratios, so
nothing here ever sees a float.

Nothing here knows the ledger: what imports this package writes what it answers.
"""
