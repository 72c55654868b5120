"""Rules, each in a file of its name, and what they call for in one order.

What must not: state of other orders, outputs.
"""
