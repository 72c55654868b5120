"""The two stages: orders by order key, accounts by shop key; what they emit and refuse.

What must not: bytes, brokers.
"""
