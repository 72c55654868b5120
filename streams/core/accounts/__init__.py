"""A shop's account: what standing violations cost, within which caps, and its journal.

What must not: orders, timers.
"""
