"""``python -m macr_plugin.cli``, which is ``macr``."""

import sys

from macr_plugin.cli import main

if __name__ == "__main__":
    sys.exit(main())
