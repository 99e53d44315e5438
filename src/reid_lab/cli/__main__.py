"""`python -m reid_lab.cli` is `reid-lab`, without an installed script."""

import sys

from reid_lab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
