#!/usr/bin/env python
"""`kovilt predict` where OpenMMLab's users look for it: python tools/predict.py MODEL IMAGE QUESTION."""

import sys

try:
    from kovilt.cli.main import main
except ModuleNotFoundError as error:
    sys.exit(f'error: {error}; in the checkout run: pip install -e .')

if __name__ == '__main__':
    sys.argv.insert(1, 'predict')
    sys.exit(main())
