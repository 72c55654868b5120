"""Everything that awaits: Kafka, Faust, processes. The decisions are made in `streams.engine`."""
