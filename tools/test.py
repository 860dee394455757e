#!/usr/bin/env python
"""`kovilt test` where OpenMMLab's users look for it: python tools/test.py CONFIG CHECKPOINT."""

import sys

try:
    from kovilt.cli.main import main
except ModuleNotFoundError as error:
    sys.exit(f'error: {error}; in the checkout run: pip install -e .')

if __name__ == '__main__':
    sys.argv.insert(1, 'test')
    sys.exit(main())
