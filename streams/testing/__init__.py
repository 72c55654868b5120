"""What tests and benches share to run real workers against a real broker."""
