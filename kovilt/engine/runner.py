"""MMEngine's Runner with what kovilt's data, checkpoints and machines ask of it."""

from __future__ import annotations

import copy
import inspect
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmengine
import torch
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, master_only
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from mmengine.utils import apply_to
from torch import nn
from torch.utils.data import DataLoader

import kovilt
from kovilt.datasets.transforms.text import tokenizer_sizes
from kovilt.engine.distributed import init_cpu_process_group
from kovilt.engine.signatures import signature_of
from kovilt.errors import KoviltError, config_errors, nearest
from kovilt.formats.checkpoint import (
    check_encoder,
    check_vocabulary,
    describe_checkpoint,
    encoder_mismatch,
    latest_checkpoint,
    load_checkpoint_file,
    load_encoder,
    load_weights,
    write_checkpoint,
)
from kovilt.models.sizes import build_model, check_sizes, complete_model_config
from kovilt.registry import DATASETS, MODEL_WRAPPERS, RUNNERS

if TYPE_CHECKING:
    pass

# What hooks keep in MMEngine's message hub that a resumed run must know again. Its other content - the config, the
# data's metainfo, the history of every scalar as pickled objects - stands elsewhere in the checkpoint or in the work
# folder.
RESUMED_INFO = ('best_', 'keep_ckpt_ids', 'last_ckpt')


# MMEngine tells runs apart by the second they began in; two of one second would share their logs and message hub.
_TIMESTAMPS: set[str] = set()


@RUNNERS.register_module()
class KoviltRunner(Runner):
    """Trains and evaluates a config of kovilt.

    Beyond MMEngine's Runner: sizes that a config leaves open (None) come from the data; the data, the encoder and the
    checkpoint are compared before the first step; checkpoints hold plain values only, are written atomically and read
    without running code; several processes also work on CPUs; learning rates scale with the batch sampler's batch.
    """

    def __init__(self, model: nn.Module | dict, work_dir: str, **kwargs: Any) -> None:
        self.data_sizes: dict[str, Any] = {}  # what the data said, by the name of the model's argument
        self.dataset_meta: dict[str, Any] = {}  # the training data's, also when only testing
        self._work_dir_existed = os.path.isdir(work_dir)
        self._parents_made = [folder for folder in Path(work_dir).absolute().parents if not folder.exists()]
        check_writable(work_dir)
        try:
            super().__init__(model, work_dir, **kwargs)
        except KoviltError:  # a run that never began leaves nothing behind
            self._discard()
            raise

    @property
    def load_from(self) -> str | None:
        """The checkpoint or folder that the weights came from; None = random weights."""
        return self._load_from

    def _discard(self) -> None:
        if hasattr(self, '_log_dir') and self._rank == 0:
            shutil.rmtree(self._log_dir if self._work_dir_existed else self._work_dir, ignore_errors=True)
            for folder in self._parents_made:
                with suppress(OSError):  # another run has written there by now
                    folder.rmdir()

    # Machines

    def setup_env(self, env_cfg: dict) -> None:
        """MMEngine joins processes over CUDA only; on CPUs they are joined here first, over gloo."""
        if self.distributed and not torch.cuda.is_available():
            init_cpu_process_group(self._launcher)
        super().setup_env(env_cfg)
        second, count = self._timestamp, 1
        while self._timestamp in _TIMESTAMPS:
            count += 1
            self._timestamp = f'{second}_{count}'
        _TIMESTAMPS.add(self._timestamp)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wraps with KoviltDistributedDataParallel. No device_ids: it would move the batch's layout off the host."""
        if not self.distributed:
            return super().wrap_model(None, model)
        wrapper = {
            'type': 'KoviltDistributedDataParallel',
            'device_ids': None,
            'broadcast_buffers': False,
            'find_unused_parameters': self.cfg.get('find_unused_parameters', False),
            **(model_wrapper_cfg or {}),
        }
        return MODEL_WRAPPERS.build(wrapper, default_args={'module': model.to(get_device())})

    # Data

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """The run's seed is also the dataset's, from which samples draw their chance, unless the config gives one."""
        if isinstance(dataloader, dict):
            dataloader = copy.deepcopy(dataloader)
            dataset = dataloader.get('dataset')
            if isinstance(dataset, dict) and seed is not None:
                kind = DATASETS.get(dataset['type']) if isinstance(dataset.get('type'), str) else dataset.get('type')
                if kind is not None and 'seed' in signature_of(kind).names:
                    dataset.setdefault('seed', seed)
            dataloader.setdefault('pin_memory', torch.cuda.is_available())  # a GPU then fetches while it computes
            if not dataloader.get('num_workers', 0):
                dataloader.pop('persistent_workers', None)  # torch refuses what only workers can have
                dataloader.pop('prefetch_factor', None)
        with config_errors('data'):
            return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Complete the config with the sizes of the data, build the model and hand it the answers."""
        if not isinstance(model, dict):
            return super().build_model(model)
        self.data_sizes, self.dataset_meta = self._read_data()
        tokenizer = getattr(getattr(self._train_dataloader, 'dataset', None), 'tokenizer', None)
        model = complete_model_config(model, data_sizes=self.data_sizes, tokenizer=tokenizer)
        with config_errors('model'):
            return build_model(model, answers=self.dataset_meta.get('answers'))

    def _read_data(self) -> tuple[dict, dict]:
        """Sizes and metainfo of the training data or, when only testing, of what the checkpoint was trained on."""
        if self._train_dataloader is not None:
            self._train_dataloader = self.build_dataloader(
                self._train_dataloader, seed=self.seed, diff_rank_seed=self._randomness_cfg.get('diff_rank_seed', False)
            )
            dataset = self._train_dataloader.dataset
            return data_sizes(dataset), dict(getattr(dataset, 'metainfo', {}))
        if self._load_from is not None:
            meta = read_checkpoint(self._load_from)['meta']
            return dict(meta.get('data_sizes', {})), dict(meta.get('dataset_meta', {}))
        return {}, {}

    def build_train_loop(self, loop):
        """`by_epoch=False` is kovilt's StepTrainLoop, which resumes without reading a batch twice."""
        if isinstance(loop, dict) and loop.get('by_epoch') is False:
            loop = {'type': 'StepTrainLoop', **{key: value for key, value in loop.items() if key != 'by_epoch'}}
        return super().build_train_loop(loop)

    def build_val_loop(self, loop):
        """The evaluator is told the answers that training knew, not those of the data it evaluates."""
        loop = super().build_val_loop(loop)
        self._inform(loop.evaluator, loop.dataloader.dataset)
        return loop

    def build_test_loop(self, loop):
        """As build_val_loop."""
        loop = super().build_test_loop(loop)
        self._inform(loop.evaluator, loop.dataloader.dataset)
        return loop

    def _inform(self, evaluator, dataset) -> None:
        sizes = data_sizes(dataset)
        check_sizes(self.cfg.model, {**sizes, 'num_answers': None})
        if self.data_sizes.get('vocabulary_digest', sizes.get('vocabulary_digest')) != sizes.get('vocabulary_digest'):
            raise KoviltError(
                'the evaluation data is read with another tokenizer than the training data or checkpoint; give both '
                'the same TokenizeKorean'
            )
        known = {key: value for key, value in self.dataset_meta.items() if key in ('answers', 'answer_counts')}
        evaluator.dataset_meta = {**getattr(dataset, 'metainfo', {}), **known}

    def scale_lr(self, optim_wrapper, auto_scale_lr: Mapping | None = None) -> None:
        """Scales the learning rate from `base_batch_size` to the batch of all processes, when enabled."""
        if auto_scale_lr is None or not auto_scale_lr.get('enable', False):
            return
        batch = self.pairs_per_step
        ratio = batch / auto_scale_lr['base_batch_size']
        self.logger.info(
            f'learning rates x {ratio:g}: {batch} pairs a step, {auto_scale_lr["base_batch_size"]} in the config'
        )
        for group in optim_wrapper.optimizer.param_groups:
            group['lr'] *= ratio

    # Checkpoints

    def train(self) -> nn.Module:
        """Trains to the end; a run that bad input keeps from its first step leaves no log behind."""
        try:
            return super().train()
        except KoviltError:
            if not isinstance(self._train_loop, dict) and self.iter == 0:
                self._discard()
            raise

    def test(self) -> dict:
        """Evaluates and returns the metrics; bad input leaves no log behind."""
        try:
            return super().test()
        except KoviltError:
            self._discard()
            raise

    def _maybe_compile(self, target: str) -> None:
        """MMEngine's `compile`, for what gains by it: the layout of a batch would break a whole step into pieces."""
        options = self.cfg.get('compile')
        if options is None or options is False:
            return
        model = self.model.module if is_model_wrapper(self.model) else self.model
        encoder = getattr(model, 'encoder', model)
        if not hasattr(encoder, 'compile_rows'):
            raise KoviltError(f'compile: a {type(encoder).__name__} has no parts to compile; leave it out')
        options = {} if options is True else dict(options)
        known = inspect.signature(torch.compile).parameters.keys() - {'model'}
        for name in options:
            if name not in known:
                raise KoviltError(f'compile: torch.compile has no argument {name!r}{nearest(name, known)}')
        encoder.compile_rows(options)

    def load_or_resume(self) -> None:
        """Resumes from the work folder's latest checkpoint, else starts from `load_from`, else from nothing.

        `resume` is 'auto' or True for the latest one of the work folder, where there may be none yet; True beside a
        `load_from` resumes from that file.
        """
        if self._has_loaded:
            return
        if self._resume == 'auto' or (self._resume and self._load_from is None):
            latest = [latest_checkpoint(self.work_dir)]
            broadcast_object_list(latest)
            if latest[0] is None:
                self.logger.info(f'nothing to resume in {self.work_dir}: the run starts from its beginning')
                self._resume = False
            else:
                self._resume, self._load_from = True, str(latest[0])
        super().load_or_resume()

    def load_checkpoint(
        self, filename: str, map_location='cpu', strict: bool = True, revise_keys: list | None = None
    ) -> dict:
        """Loads the weights of `filename` into the model, or says in one line why it cannot.

        A run that is resumed, tested or started from a checkpoint of the same model takes every tensor. One that
        starts from another model's checkpoint - fine-tuning from pre-training - or from a file of weights alone takes
        the encoder and leaves the heads new; `load_encoder_only = True` in the config asks for that also between
        equal models. Weights of another kind of encoder (`ViLT`, `PrefixViLT`) may start a training, with a warning,
        but neither resume one nor be tested.
        """
        checkpoint = read_checkpoint(filename, map_location)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        training = self._train_dataloader is not None and not self._resume
        check_vocabulary(self.data_sizes, checkpoint, filename)
        if self._resume:
            self._check_same_run(checkpoint['meta'], filename)
        if not training:
            check_encoder(model, checkpoint, filename)
        elif (mismatch := encoder_mismatch(model, checkpoint)) is not None:
            self.logger.warning(f'{filename}: {mismatch}: its weights are only a starting point')
        same = checkpoint['meta'].get('model_type') == type(model).__name__
        if training and (not same or self.cfg.get('load_encoder_only', False)):
            loaded, total = load_encoder(model, checkpoint, filename)
            left = sorted({name.split('.')[0] for name in checkpoint['state_dict'] if not name.startswith('encoder.')})
            fresh = sorted({name.split('.')[0] for name in model.state_dict() if not name.startswith('encoder.')})
            self.logger.info(
                f'{filename} ({describe_checkpoint(checkpoint)}): {loaded} of {total} tensors of the encoder loaded; '
                f'left behind: {", ".join(left) or "nothing"}; new: {", ".join(fresh) or "nothing"}'
            )
            checkpoint['state_dict'] = weights_to_cpu(model.state_dict())  # what hooks such as EMAHook copy
            self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        else:
            self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
            load_weights(model, checkpoint, filename)
            self.logger.info(f'{filename} ({describe_checkpoint(checkpoint)}): loaded')
        self._has_loaded = True
        return checkpoint

    def _check_same_run(self, meta: Mapping, filename: str) -> None:
        """Samples draw their chance from the seed: a resumed run must have that of its first part."""
        if meta.get('seed', self.seed) != self.seed:
            raise KoviltError(
                f'{filename}: trained with seed {meta["seed"]}, but this run has {self.seed}; add --seed {meta["seed"]}'
            )
        if meta.get('pairs_per_step', self.pairs_per_step) != self.pairs_per_step:
            self.logger.warning(
                f'{filename}: trained with {meta["pairs_per_step"]} pairs a step, goes on with {self.pairs_per_step}: '
                'its steps and epochs no longer mean the same'
            )

    @property
    def pairs_per_step(self) -> int:
        """The batch of all processes, all micro-batches together."""
        return self.world_size * self.cfg.train_dataloader.batch_size

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Writes `out_dir`/`filename` whole or not at all; every value is a tensor or plain Python.

        `file_client_args` and `backend_args` are MMEngine's remote storage and must be None: files are local.
        """
        if file_client_args or backend_args:
            raise KoviltError('checkpoints are written to local folders; remove file_client_args and backend_args')
        model = self.model.module if is_model_wrapper(self.model) else self.model
        meta = {'epoch': self.epoch + by_epoch, 'iter': self.iter + (not by_epoch), **(meta or {})}
        meta |= {
            'model_type': type(model).__name__,
            'encoder_type': type(getattr(model, 'encoder', None)).__name__,
            'kovilt_version': kovilt.__version__,
            'mmengine_version': mmengine.__version__,
            'torch_version': str(torch.__version__),
            'cfg': self.cfg.pretty_text,
            'seed': self.seed,
            'pairs_per_step': self.pairs_per_step,
            'experiment_name': self.experiment_name,
            'time': time.strftime('%Y-%m-%d %H:%M:%S'),
            'data_sizes': self.data_sizes,
            'dataset_meta': plain(self.dataset_meta),
        }
        info = {key: value for key, value in self.message_hub.runtime_info.items() if key.startswith(RESUMED_INFO)}
        checkpoint: dict[str, Any] = {
            'meta': meta,
            'state_dict': weights_to_cpu(model.state_dict()),
            'message_hub': {'log_scalars': {}, 'runtime_info': info, 'resumed_keys': dict.fromkeys(info, True)},
        }
        if save_optimizer:
            checkpoint['optimizer'] = apply_to(
                self.optim_wrapper.state_dict(), lambda x: hasattr(x, 'cpu'), lambda x: x.cpu()
            )
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint['param_schedulers'] = [scheduler.state_dict() for scheduler in self.param_schedulers]
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        write_checkpoint(checkpoint, Path(out_dir) / filename)


def read_checkpoint(path: str | os.PathLike[str], map_location: str | torch.device = 'cpu') -> dict[str, Any]:
    """A checkpoint file, or a model folder in the same form."""
    if Path(path).expanduser().is_dir():
        from kovilt.weights.folder import folder_as_checkpoint

        return folder_as_checkpoint(path)
    return load_checkpoint_file(path, map_location)


def check_writable(folder: str | os.PathLike) -> None:
    """KoviltError unless a file can be made in `folder`, which need not exist; leaves nothing behind."""
    folder = Path(folder).absolute()
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise KoviltError(
            f'work-dir {folder}: cannot write there ({error.strerror}); choose another with --work-dir'
        ) from error


def data_sizes(dataset) -> dict[str, Any]:
    """What a dataset decides about a model, by the name of the model's argument: its answers, its tokenizer's ids."""
    sizes: dict[str, Any] = {}
    answers = getattr(dataset, 'metainfo', {}).get('answers')
    if answers is not None:
        sizes['num_answers'] = len(answers)
    tokenizer = getattr(dataset, 'tokenizer', None)
    if tokenizer is not None:
        sizes |= tokenizer_sizes(tokenizer)
    steps = [*getattr(dataset, 'image_pipeline', ()), *getattr(dataset, 'text_pipeline', ())]
    for name in ('patch_size', 'max_text_len'):
        found = [getattr(step, name) for step in steps if hasattr(step, name)]
        if found:
            sizes[name] = found[0]
    return sizes


def plain(value: Any) -> Any:
    """`value` as tensors, numbers, text, lists and dicts, which are all that a checkpoint may hold."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str(value)  # also what is text only by descent, such as an environment's version
    if hasattr(value, 'tolist') and not isinstance(value, torch.Tensor):  # numpy
        return value.tolist()
    return value
