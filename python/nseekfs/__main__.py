"""Entry point of ``python -m nseekfs``."""

import sys

from nseekfs.cli import main

if __name__ == "__main__":
    sys.exit(main())
