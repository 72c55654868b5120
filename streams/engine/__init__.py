"""The partition tasks: records in, one checkpoint out; pure, synchronous and broker-free.

`simulate` and the Kafka runtime drive the same two tasks, which is why they give the same bytes.
"""
