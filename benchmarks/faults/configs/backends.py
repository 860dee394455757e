"""As vqa.py beside it, with a log back end that fails as KOVILT_BACKEND says ("add_scalars refuse").

Command: python -m benchmarks.faults F28
"""

import os

_base_ = 'vqa.py'
visualizer = dict(
    vis_backends=[
        dict(type='LocalVisBackend'),
        dict(type='FaultBackend', save_dir='', fails=os.environ.get('KOVILT_BACKEND', '')),
    ]
)
