"""`python -m streams`: the same as the `shipclock` command."""

try:
    from streams.cli import main

    main()
except KeyboardInterrupt:
    raise SystemExit(130) from None
