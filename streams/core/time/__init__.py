"""Log time: local calendars, frontiers, timers and retention, for millions of keys.

What must not: rules, states, outputs.
"""
