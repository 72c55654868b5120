"""What is said of orders and what is made of it: events, an order's facts, outputs.

What must not: anything that decides.
"""
