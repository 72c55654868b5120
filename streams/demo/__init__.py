"""The demo: a made-up sale, played through real topics and real workers, and checked at the end."""
