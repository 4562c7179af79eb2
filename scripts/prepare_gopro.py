"""Turn the GoPro data set into LMDBs: the same as ``macr prepare gopro``, with the same options."""

import sys

from macr_plugin.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "gopro", *sys.argv[1:]]))
