"""The pure core: what a fact does to an order's clocks and to a shop's account.

Nothing here knows the wall clock, randomness, bytes on a wire or a broker; time comes in as an
argument, results go out as values. `streams.engine` drives it.
"""
