"""MMEngine's Runner for kovilt's data, models and checkpoints."""

from __future__ import annotations

import copy
import functools
import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, get_rank, master_only
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from kovilt.engine.changes import Change, changes_course, check_allowed_keys
from kovilt.engine.checkpoint_writer import CheckpointWriter, check_finite, to_host
from kovilt.engine.checkpoints import (
    check_same_run,
    make_checkpoint,
    matching_as_choice,
    read_checkpoint,
    start_from_encoder,
    unwrap_model,
)
from kovilt.engine.component_check import arguments_of, find_type
from kovilt.engine.config_files import escape_braces
from kovilt.engine.console import RunConsole
from kovilt.engine.data_sizes import read_data_sizes
from kovilt.engine.distributed import (
    check_launcher,
    check_ranks_agree,
    check_same_file,
    join_processes,
    lost_process_errors,
    mark_progress,
    note_begin,
    set_variables_from_slurm,
)
from kovilt.engine.interruption import Interruption, SignalWatch
from kovilt.engine.loader import watch_workers
from kovilt.engine.log_backends import complete_backends, guard_backends, guard_log_files
from kovilt.engine.run_facts import collect_model_facts, collect_run_facts
from kovilt.engine.run_files import RunFiles
from kovilt.engine.schedule import WarmupLinearLR, follow_config
from kovilt.engine.work_dir import (
    WorkDirBefore,
    check_temporary_folder,
    check_writable,
    create_log_dir,
    lock_work_dir,
)
from kovilt.errors import KoviltError, RunFault, config_errors, first_line, nearest
from kovilt.files import write_text
from kovilt.formats.checkpoint import (
    POINTER_FILE,
    check_encoder,
    check_vocabulary,
    describe_checkpoint,
    encoder_mismatch,
    find_checkpoints,
    load_weights,
    write_checkpoint,
)
from kovilt.models.sizes import build_model, check_sizes, complete_model_config
from kovilt.registry import DATASETS, MODEL_WRAPPERS, RUNNERS

# MMEngine names a run after the second in which it starts; two runs of one second would share logs and message hub.
# This counts those of this process, also in other work folders; `create_log_dir` finds those of other processes.
_USED_TIMESTAMPS: Counter[str] = Counter()


@RUNNERS.register_module()
class KoviltRunner(Runner):
    """Trains and evaluates a config of kovilt.

    It adds to MMEngine's Runner:

    - sizes that a config leaves open (None) come from the data;
    - data, encoder and checkpoint are compared before the first step;
    - checkpoints hold plain values only, are written atomically and read without running code;
    - several processes also work on CPUs;
    - a run that bad input stops before its first step leaves no files behind.

    Attributes:
        data_sizes: sizes read off the training data by `read_data_sizes` or, in a test, from the checkpoint.
        dataset_meta: metainfo of the training data, from the same source.
        signals: notes the signals that ask a training to save and end.
        files: decide what happens when a file of the run cannot be written (`on_save_error` of the config).
        writer: writes the checkpoints while the training goes on.
        console: decides what of the log reaches the console, and draws bars on a terminal.
    """

    # Set by MMEngine's Runner, which has no types.
    _train_dataloader: Any
    _train_loop: Any
    optim_wrapper: Any
    _load_from: str | None
    _resume: bool | str
    _has_loaded: bool
    _timestamp: str
    console: RunConsole

    def __init__(self, model: nn.Module | dict[str, Any], work_dir: str, **kwargs: Any) -> None:
        """Build everything but the loops; all arguments are those of MMEngine's Runner."""
        self.data_sizes: dict[str, Any] = {}
        self.dataset_meta: dict[str, Any] = {}
        self.signals = SignalWatch()
        self.files = RunFiles(work_dir, (kwargs.get('cfg') or {}).get('on_save_error', 'stop'))
        self.writer = CheckpointWriter(self.files)
        self._allow_change: Sequence[str] = ()
        self._force_load = False
        self._changes: list[Change] = []  # since the checkpoint that the run was resumed from
        self._work_dir_before = WorkDirBefore(work_dir)
        check_writable(work_dir)
        check_launcher(kwargs.get('launcher', 'none'))
        with self._no_logs_after_bad_input():
            super().__init__(model, work_dir, **kwargs)

    @property
    def load_from(self) -> str | None:
        """The checkpoint or model folder that the weights came from; None = random weights."""
        return self._load_from

    @property
    def pairs_per_step(self) -> int:
        """Batch size of all processes and micro-batches together."""
        return self.world_size * self.cfg.train_dataloader.batch_size

    @functools.cached_property
    def config_text(self) -> str:
        """The config as a file, for checkpoints; formatting it takes longer than writing a small checkpoint."""
        return escape_braces(self.cfg.pretty_text)

    def dump_config(self) -> None:
        """Write the config into the work folder, from where it can be trained again.

        MMEngine calls it when everything is built. A training writes its config later, when the folder is its own.
        """
        if self._train_loop is None:
            self._write_config()

    @master_only
    def _write_config(self) -> None:
        write_text(Path(self.work_dir, Path(self.cfg.filename or f'{self.timestamp}.py').name), self.config_text)

    def train(self, allow_change: Sequence[str] = (), *, force_load: bool = False) -> nn.Module:
        """Train from the start, or from a checkpoint if the config has `resume`, and return the model.

        Args:
            allow_change: keys of what may have changed since the checkpoint; see `engine.changes`.
            force_load: start also from a file with less than 95 % of the encoder's tensors.
        """
        self._allow_change, self._force_load = allow_change, force_load
        lock = lock_work_dir(self.work_dir, resume=bool(self._resume)) if self.rank == 0 else nullcontext()
        logs = closing(self.visualizer)  # also when the run is interrupted
        bars = closing(self.console)
        with self._no_logs_after_bad_input(), lost_process_errors(), lock, self.signals, self.writer, logs, bars:
            if self.rank == 0:
                note_begin()
            return super().train()

    def test(self) -> dict[str, Any]:
        logs, bars = closing(self.visualizer), closing(self.console)
        with self._no_logs_after_bad_input(), lost_process_errors(), logs, bars:
            return super().test()

    @contextmanager
    def _no_logs_after_bad_input(self) -> Iterator[None]:
        """Remove the logs of a test, or of a training before its first step, that a KoviltError stops."""
        try:
            yield
        except (Interruption, RunFault):  # also in the first step, when `iter` is 0: a checkpoint or a report is there
            raise
        except KoviltError:
            has_begun = isinstance(self._train_loop, BaseLoop) and self._train_loop.iter > 0
            if not has_begun:
                is_first = getattr(self, '_rank', None) == 0  # unknown until the processes have joined
                self._work_dir_before.restore(getattr(self, '_log_dir', None) if is_first else None)
            raise

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        guard_log_files(logger)
        self.console = RunConsole(logger, is_first=get_rank() == 0)
        return logger

    def build_visualizer(self, visualizer: Visualizer | dict[str, Any] | None = None) -> Visualizer:
        """Build the visualizer, whose back ends can neither stop nor delay the run."""
        if isinstance(visualizer, dict):
            visualizer = copy.deepcopy(visualizer)  # the config stays valid in another work folder
            visualizer.setdefault('type', 'Visualizer')
            complete_backends(visualizer, self.work_dir)
        return guard_backends(super().build_visualizer(visualizer))

    # Processes and devices

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """As MMEngine's; each call is progress of this process, for which the others wait."""
        kind, loader = fn_name.partition('_')[2].partition('_')[0], None
        if kind in ('val', 'test') and 'batch_idx' in kwargs:
            loader = getattr(getattr(self, f'_{kind}_loop', None), 'dataloader', None)
        is_last = loader is not None and kwargs['batch_idx'] + 1 == len(loader)  # the metrics follow
        steps = self._train_loop.iter if isinstance(self._train_loop, BaseLoop) else None
        mark_progress(fn_name, steps, long=is_last)
        super().call_hook(fn_name, **kwargs)

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Set up the processes. They are joined here: MMEngine joins them over CUDA only, and not after a restart."""
        if self.distributed:
            if self._launcher == 'slurm':
                set_variables_from_slurm()
            join_processes(**env_cfg.get('dist_cfg', {}))
        super().setup_env(env_cfg)
        _USED_TIMESTAMPS[self._timestamp] += 1
        number = _USED_TIMESTAMPS[self._timestamp]
        names = [create_log_dir(self.work_dir, self._timestamp, number) if self.rank == 0 else '']
        broadcast_object_list(names)
        self._timestamp = names[0]

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Wrap the model with KoviltDistributedDataParallel if there are several processes.

        `device_ids` stays None: with it, torch would move the layout of a batch, which belongs on the host, to the
        device.
        """
        if not self.distributed:
            return super().wrap_model(None, model)
        if self._train_dataloader is not None:  # with parameters of other sizes the wrapper would fail first
            check_ranks_agree(collect_model_facts(self))
        wrapper = {
            'type': 'KoviltDistributedDataParallel',
            'device_ids': None,
            'broadcast_buffers': False,
            'find_unused_parameters': self.cfg.get('find_unused_parameters', False),
            **(model_wrapper_cfg or {}),
        }
        return MODEL_WRAPPERS.build(wrapper, default_args={'module': model.to(get_device())})

    def _maybe_compile(self, target: str) -> None:
        """Apply `compile` of the config to the parts of the encoder that gain by it, not to the whole step.

        MMEngine would compile the method `target`; the layout of a batch would break that into many graphs.
        """
        options = self.cfg.get('compile')
        if options is None or options is False:
            return
        model = unwrap_model(self.model)
        encoder = getattr(model, 'encoder', model)
        if not hasattr(encoder, 'compile_blocks'):
            raise KoviltError(f'compile: a {type(encoder).__name__} has no parts to compile; leave it out')
        options = {} if options is True else dict(options)
        known = inspect.signature(torch.compile).parameters.keys() - {'model'}
        for name in options:
            if name not in known:
                raise KoviltError(f'compile: torch.compile has no argument {name!r}{nearest(name, known)}')
        encoder.compile_blocks(options)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        with config_errors(f'{self.cfg.filename}: param_scheduler' if self.cfg.filename else 'param_scheduler'):
            schedulers = super().build_param_scheduler(scheduler)
        for schedule in schedulers if isinstance(schedulers, list) else ():
            if isinstance(schedule, WarmupLinearLR) and schedule.warmup >= schedule.total:
                self.logger.warning(
                    f'param_scheduler: the warm-up takes all {schedule.total:,} steps of the run, so the learning rate '
                    'never falls; give a smaller warmup'
                )
        return schedulers

    # Data and model

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader; a dataset that takes a seed and has none in the config gets that of the run."""
        if isinstance(dataloader, dict):
            dataloader = copy.deepcopy(dataloader)
            dataset = dataloader.get('dataset')
            if isinstance(dataset, dict) and seed is not None:
                if 'seed' in arguments_of(find_type(dataset.get('type'), 'dataset', DATASETS))[0]:
                    dataset.setdefault('seed', seed)
            dataloader.setdefault('pin_memory', torch.cuda.is_available())  # batches are copied while the GPU computes
            if not dataloader.get('num_workers', 0):
                dataloader.pop('persistent_workers', None)  # torch refuses these two without workers
                dataloader.pop('prefetch_factor', None)
            else:
                check_temporary_folder()
        mark_progress('build_dataloader', work=True)
        with config_errors('data'):
            return watch_workers(Runner.build_dataloader(dataloader, seed, diff_rank_seed))

    def build_model(self, model: nn.Module | dict[str, Any]) -> nn.Module:
        """Complete the config with the sizes of the data, build the model and hand it the answers."""
        if not isinstance(model, dict):
            return super().build_model(model)
        self.data_sizes, self.dataset_meta = self._read_data()
        mark_progress('build_model')
        tokenizer = getattr(getattr(self._train_dataloader, 'dataset', None), 'tokenizer', None)
        model = complete_model_config(model, data_sizes=self.data_sizes, tokenizer=tokenizer)
        with config_errors(f'{self.cfg.filename}: model' if self.cfg.filename else 'model'):
            return build_model(model, answers=self.dataset_meta.get('answers'))

    def _read_data(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sizes and metainfo of the training data or, in a test, of the data that the checkpoint was trained on."""
        if self._train_dataloader is not None:
            self._train_dataloader = self.build_dataloader(
                self._train_dataloader, seed=self.seed, diff_rank_seed=self._randomness_cfg.get('diff_rank_seed', False)
            )
            dataset = self._train_dataloader.dataset
            if self.pairs_per_step > len(dataset):
                self.logger.warning(
                    f'train_dataloader.batch_size: a step takes {self.pairs_per_step:,} pairs, but the training data '
                    f'has {len(dataset):,}: every step trains on some of them twice'
                )
            return read_data_sizes(dataset), dict(getattr(dataset, 'metainfo', {}))
        if self._load_from is not None:
            meta = read_checkpoint(self._load_from)['meta']
            return dict(meta.get('data_sizes', {})), dict(meta.get('dataset_meta', {}))
        return {}, {}

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: Mapping[str, Any] | None = None) -> None:
        """Scale the learning rates from `base_batch_size` to the batch size of all processes, if enabled."""
        if auto_scale_lr is None or not auto_scale_lr.get('enable', False):
            return
        base = auto_scale_lr['base_batch_size']
        factor = self.pairs_per_step / base
        self.logger.info(f'learning rates x {factor:g}: {self.pairs_per_step} pairs a step, {base} in the config')
        for group in optim_wrapper.optimizer.param_groups:
            group['lr'] *= factor

    # Loops

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the training loop; `by_epoch` in place of `type` means EpochTrainLoop or StepTrainLoop."""
        if isinstance(loop, dict) and 'by_epoch' in loop:
            name = 'EpochTrainLoop' if loop['by_epoch'] else 'StepTrainLoop'
            loop = {'type': name, **{key: value for key, value in loop.items() if key != 'by_epoch'}}
        loop = super().build_train_loop(loop)
        if not len(loop.dataloader):
            raise KoviltError('train_dataloader: the data fills no batch and drop_last is True; lower batch_size')
        return loop

    def build_val_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        return self._prepare_evaluation(super().build_val_loop(loop))

    def build_test_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        return self._prepare_evaluation(super().build_test_loop(loop))

    def _prepare_evaluation(self, loop: BaseLoop) -> BaseLoop:
        """Check that the data of a loop fits the model, and give its evaluator the answers of the training data."""
        dataset = loop.dataloader.dataset
        sizes = read_data_sizes(dataset)
        check_sizes(self.cfg.model, {**sizes, 'num_answers': None})
        if self.data_sizes.get('vocabulary_digest', sizes.get('vocabulary_digest')) != sizes.get('vocabulary_digest'):
            # Without training data the sizes are those of the checkpoint.
            is_tested = self._train_dataloader is None
            trained = f'{self.load_from}: it was trained' if is_tested else 'the training data is read'
            raise KoviltError(
                f'{trained} with another tokenizer than the evaluation data; give both the same TokenizeKorean'
            )
        answers = {key: value for key, value in self.dataset_meta.items() if key in ('answers', 'answer_counts')}
        loop.evaluator.dataset_meta = {**getattr(dataset, 'metainfo', {}), **answers}
        return loop

    @functools.cached_property
    def run_facts(self) -> dict[str, Any]:
        """What the run is made of, as `collect_run_facts` finds it when it begins."""
        return collect_run_facts(self)

    # Checkpoints

    def load_or_resume(self) -> None:
        """Resume from a checkpoint, or start from the weights of `load_from`, or from random weights.

        `resume` = 'auto', and True without `load_from`, resume from the latest checkpoint of the work folder, if there
        is one; True with `load_from` resumes from that file.
        """
        if self._has_loaded:
            return
        mark_progress('load_or_resume')
        if self.world_size > 1:
            # A machine that was lost and started anew does not know that the run has begun; rank 0 does.
            resume = [self._resume]
            broadcast_object_list(resume)
            if resume[0] == 'auto':
                self._resume = self.cfg.resume = 'auto'
            if self._train_loop is not None:
                check_ranks_agree(self.run_facts)
        if self._resume == 'auto' or (self._resume and self._load_from is None):
            latest = self._find_resumable()
            if latest is None:
                check_allowed_keys(self._allow_change, self.run_facts)
                self.logger.info(f'nothing to resume in {self.work_dir}: the run starts from its beginning')
                self._resume = False
            else:
                self._resume, self._load_from = True, str(latest)
        if self._resume and self.world_size > 1:
            check_same_file(str(self._load_from))
        super().load_or_resume()
        if self._train_loop is not None:
            self.files.write('the config', self._write_config)

    def roll_back(self) -> None:
        """Load the latest checkpoint of this run, from which the training loop then continues.

        Raises:
            RunFault: there is none yet.
        """
        self.writer.wait()
        latest = self._find_resumable()
        if latest is None:
            raise RunFault(f'{self.work_dir}: there is no checkpoint yet to go back to; start the run again')
        self._resume = True
        self.resume(str(latest))

    def _find_resumable(self) -> Path | None:
        """The latest checkpoint of the work folder that is not damaged; None if there is none at all.

        Raises:
            KoviltError: all are damaged.
        """
        found: list[Any] = [None, '']
        if self.rank == 0:
            candidates = find_checkpoints(self.work_dir)
            for path in candidates:
                try:
                    read_checkpoint(path)
                except KoviltError as error:
                    self.logger.warning(f'{error}: trying the checkpoint before')
                else:
                    found[0] = path
                    break
            else:
                if candidates:
                    found[1] = f'{self.work_dir}: none of its {len(candidates)} checkpoints can be read; start anew in '
        broadcast_object_list(found)
        if found[1]:
            raise KoviltError(f'{found[1]}another folder: --work-dir')
        return found[0]

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """As MMEngine's, from a checkpoint that may have been written by other versions or by others.

        MMEngine takes learning rates, other values of the optimizer and schedules from the checkpoint. If the config
        has other ones, and the change is allowed, they are those of the config instead.
        """
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        values = [dict(group) for group in self.optim_wrapper.param_groups]
        try:
            super().resume(filename, *args, **kwargs)
            if changes_course(self._changes):
                follow_config(self, values)
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError, IndexError) as error:
            raise KoviltError(
                f'{filename}: cannot be resumed ({first_line(error)}); start from its weights by --load-from'
            ) from error

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | torch.device = 'cpu',
        strict: bool = True,
        revise_keys: list[tuple[str, str]] | None = None,
    ) -> dict[str, Any]:
        """Load weights into the model.

        A run that is resumed or tested, or that starts from a checkpoint of the same model, takes every tensor. A run
        that starts from a checkpoint of another model (fine-tuning from pre-training), or from a file of weights
        alone, takes the encoder and keeps its new heads; with `load_encoder_only = True` in the config, also if the
        models are the same. A choice head begins as the matching head of pre-training, which may also be tested so. A
        checkpoint of another kind of encoder (`ViLT`, `PrefixViLT`) may start a training, with a warning, but can
        neither be resumed nor tested. `strict` and `revise_keys` of MMEngine's Runner are not used.

        Raises:
            KoviltError: unreadable file, or it does not fit the model, the data or the run.
        """
        checkpoint = read_checkpoint(filename, map_location)
        model = unwrap_model(self.model)
        is_start = self._train_dataloader is not None and not self._resume
        if self._resume:
            self._changes = check_same_run(self, checkpoint, filename, self._allow_change)
        check_vocabulary(self.data_sizes, checkpoint, filename)
        if not is_start:
            check_encoder(model, checkpoint, filename)
        elif (mismatch := encoder_mismatch(model, checkpoint)) is not None:
            self.logger.warning(f'{filename}: {mismatch}: its weights are only a starting point')
        is_same_model = checkpoint['meta'].get('model_type') == type(model).__name__
        encoder_only = is_start and self.cfg.get('load_encoder_only', False)
        if line := '' if encoder_only else matching_as_choice(model, checkpoint, filename):
            self.logger.info(line)
        if encoder_only or is_start and not is_same_model:
            loaded, force = ('choice_head.',) if line else (), self._force_load
            self.logger.info(start_from_encoder(model, checkpoint, filename, force=force, loaded=loaded))
            self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        else:
            self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
            load_weights(model, checkpoint, filename)
            self.logger.info(f'{filename} ({describe_checkpoint(checkpoint)}): loaded')
        self._has_loaded = True
        return checkpoint

    def collect_checkpoint(
        self, meta: Mapping[str, Any], *, optimizer: bool = True, schedules: bool = True
    ) -> dict[str, Any]:
        """What a checkpoint of the current state holds. Its tensors are those that are trained, on their device."""
        checkpoint = make_checkpoint(self, meta, optimizer=optimizer, schedules=schedules)
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        return checkpoint

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict[str, Any] | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict[str, Any] | None = None,
        by_epoch: bool = True,
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        """Write `out_dir`/`filename` atomically and at once; every value in it is a tensor or plain Python.

        `file_client_args` and `backend_args` are MMEngine's remote storage and must be None: files are local.

        Raises:
            RunFault: a weight is not finite, or the file cannot be written.
        """
        if file_client_args or backend_args:
            raise KoviltError('checkpoints are written to local folders; remove file_client_args and backend_args')
        meta = {'epoch': self.epoch + by_epoch, 'iter': self.iter + (not by_epoch), **(meta or {})}
        checkpoint = self.collect_checkpoint(meta, optimizer=save_optimizer, schedules=save_param_scheduler)
        self._write_checkpoint(checkpoint, Path(out_dir, filename))

    def save_now(self, step: int, epoch: int) -> Path:
        """Write a checkpoint of a run that is about to end, from any process, and return its path.

        Args:
            step, epoch: how many of them are complete.

        Raises:
            RunFault: as `save_checkpoint`.
        """
        self.writer.wait(tolerant=True)
        path = Path(self.work_dir, f'iter_{step}.pth')  # written also if it is there: that one may be damaged
        self._write_checkpoint(self.collect_checkpoint({'iter': step, 'epoch': epoch}), path, is_latest=True)
        return path

    def _write_checkpoint(self, checkpoint: Mapping[str, Any], path: Path, *, is_latest: bool = False) -> None:
        checkpoint = to_host(checkpoint)
        check_finite(checkpoint)
        try:
            self.files.check_folder()
            write_checkpoint(checkpoint, path)
            if is_latest:
                write_text(path.with_name(POINTER_FILE), path.name)
        except OSError as error:
            raise self.files.fault(path.name, error) from error
