"""A second, deliberately naive reading of the rules, to hold against the engine."""
