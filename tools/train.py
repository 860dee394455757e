#!/usr/bin/env python
"""`kovilt train` where OpenMMLab's users look for it: python tools/train.py CONFIG."""

import sys

try:
    from kovilt.cli.main import main
except ModuleNotFoundError as error:
    sys.exit(f'error: {error}; in the checkout run: pip install -e .')

if __name__ == '__main__':
    sys.argv.insert(1, 'train')
    sys.exit(main())
