"""`python -m streams`: the same as the `shipclock` command."""

from streams.cli import main

main()
