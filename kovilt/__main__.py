"""`python -m kovilt`: the command without an installation, in a clone."""

import sys

from kovilt.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
