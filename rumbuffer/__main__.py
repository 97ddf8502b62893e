"""`python -m rumbuffer` is the `rumbuffer` command."""

import sys

from rumbuffer.cli import main

if __name__ == "__main__":
    sys.exit(main())
