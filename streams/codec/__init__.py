"""The only room that knows bytes: records to events, outputs to records, state to changelog."""
