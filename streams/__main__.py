#!python
"""The `shipclock` command, also as `python -m streams`; installed as it is, as a script.

The script that pip makes of an entry point imports for some ten milliseconds before it calls us,
and Ctrl-C then ends in a traceback. This one catches it from its first line on.
"""

import os

try:
    from streams.cli import main

    main()
except KeyboardInterrupt:
    # `main` ends so itself as soon as it runs.
    os._exit(130)
