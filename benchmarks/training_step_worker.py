"""Training steps of one version of kovilt, one for each line that comes in, for `training_step --against`.

The text of this file runs in checkouts of other versions, so it may use nothing of them that is new.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.model import BaseModel
    from mmengine.optim import OptimWrapper

VOCAB_SIZE, NUM_ANSWERS, FIRST_TOKEN = 1000, 30, 5  # smaller ids are special tokens


def make_trainer(config: Any, precision: str) -> tuple[BaseModel, OptimWrapper]:
    """The config's model with new weights and its optimizer, for random batches."""
    import torch

    from kovilt.engine.optim import ViLTOptimWrapperConstructor, mixed_precision
    from kovilt.models.sizes import build_model, complete_model_config

    sizes = {
        'vocab_size': VOCAB_SIZE,
        'mask_token_id': 4,
        'special_token_ids': list(range(FIRST_TOKEN)),
        'num_answers': NUM_ANSWERS,
    }
    torch.manual_seed(0)
    model = build_model(complete_model_config(config.model.to_dict(), data_sizes=sizes)).train()
    wrapper = {'type': 'ViLTOptimWrapper', 'optimizer': dict(config.optim_wrapper.optimizer), 'clip_grad': None}
    wrapper = mixed_precision(wrapper, precision) if precision == 'bfloat16' else wrapper
    return model, ViLTOptimWrapperConstructor(wrapper)(model)


def serve_steps(config_file: str, batches_file: str, threads: str) -> None:
    """Print 'ready' and then, for each line that comes in, the processor seconds and the loss of a step in bfloat16."""
    output = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what is logged must not come between
    import torch

    from kovilt.engine.config import load_config

    torch.set_num_threads(int(threads))
    model, optim_wrapper = make_trainer(load_config(config_file, [], {}), 'bfloat16')
    batches = itertools.cycle(torch.load(batches_file, weights_only=True))
    print('ready', file=output, flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        logs = model.train_step([next(batches)], optim_wrapper)
        print(time.process_time() - start, float(logs['loss']), file=output, flush=True)
