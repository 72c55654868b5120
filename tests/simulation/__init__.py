"""The worker's own code in one thread, over a log in memory, with every accident from one seed."""
