"""Kafka as the product meets it: how to connect, and the topics as a broker has them."""
