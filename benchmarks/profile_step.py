"""Where the time of a training step goes, by part of the model and by operator, and the speed of its matrix products.

    python -m benchmarks.profile_step configs/rooms/vqa.py --amp

Medians over the steps, in processor time. Images are noise and texts random, in the shapes of Rooms, so no data is
needed and the loader is not part of a step. A part is a module by its name, `*` = of all blocks; an operator's backward
pass counts to the part that called it. The host's time is what no operator takes: Python, autograd, the allocator.
"""

from __future__ import annotations

import argparse
import bisect
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.report import markdown_table
from benchmarks.timing import describe_machine
from benchmarks.training_step import PRECISIONS, WARM_UPS, make_batches
from benchmarks.training_step_worker import make_trainer
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import run_cli

if TYPE_CHECKING:
    from torch import nn

Operator = tuple[str, str, str]  # part, phase, name
PHASES = ('forward', 'backward', 'update')
OPTIMIZER = 'optimizer'
LEAST_SHARE = 0.005  # of the step; less is summed up in one row


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='a training config')
    parser.add_argument('--amp', action='store_true', help='in bfloat16')
    parser.add_argument('--texts', type=at_least(2), default=64, metavar='N', help='pairs of a batch (64)')
    parser.add_argument('--steps', type=at_least(1), default=10, metavar='N', help='profiled steps (10)')
    parser.add_argument('--threads', type=at_least(1), default=1, metavar='N', help='of torch (1)')
    return parser.parse_args(argv)


class StepProfile:
    """The processor time of every operator of a training step, by part of the model.

    Args:
        model: its methods are wrapped, to know which part of it computes.

    Attributes:
        seconds: by operator.
        products: how often each matrix product was computed.
        flops: of the matrix products.
    """

    def __init__(self, model: nn.Module) -> None:
        self.seconds: Counter[Operator] = Counter()
        self.products: Counter[tuple[Any, ...]] = Counter()
        self.flops = 0
        # Autograd numbers the operators of the forward pass. From each of these numbers on they belong to that part.
        self._numbers: list[int] = []
        self._parts = ['model']
        for name, module in model.named_modules():
            part = re.sub(r'\.\d+', '.*', name) or 'model'
            own = type(module).__module__.startswith('kovilt.')
            methods = [key for key, value in vars(type(module)).items() if callable(value)] if own else ['forward']
            for method in methods:
                if not method.startswith('_'):
                    setattr(module, method, self.in_part(part, getattr(module, method)))

    def in_part(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose operators count to the part, but for those of functions of other parts that it calls."""
        import torch

        def enter(part: str) -> None:
            self._numbers.append(torch._C._autograd._get_sequence_nr())
            self._parts.append(part)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            caller = self._parts[-1]
            enter(part)
            try:
                return function(*args, **kwargs)
            finally:
                enter(caller)

        return wrapped

    def run(self, step: Callable[[], object]) -> None:
        """Run a step and add its operators."""
        from torch.utils._python_dispatch import TorchDispatchMode
        from torch.utils.flop_counter import flop_registry

        class Recorder(TorchDispatchMode):
            def __torch_dispatch__(recorder, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                part, phase = self._current_part()
                start = time.process_time()
                result = function(*args, **(kwargs or {}))
                operator = function.overloadpacket
                self.seconds[part, phase, operator.__name__] += time.process_time() - start
                if operator in flop_registry:
                    self.flops += flop_registry[operator](*args, **(kwargs or {}), out_val=result)
                    self.products[_product(operator.__name__, args)] += 1
                return result

        with Recorder():
            step()

    def _current_part(self) -> tuple[str, str]:
        """The part of the model and the phase of the step."""
        import torch

        node = torch._C._current_autograd_node()
        if node is None:
            return self._parts[-1], 'update' if self._parts[-1] == OPTIMIZER else 'forward'
        if node.name().endswith('AccumulateGrad'):
            return 'gradients of parameters', 'backward'
        return self._parts[bisect.bisect_right(self._numbers, node._sequence_nr())], 'backward'


def _product(operator: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Key of a matrix product: mm or bmm, then shape, strides and type of both matrices."""
    name = {'addmm': 'mm', 'baddbmm': 'bmm'}.get(operator, operator)
    matrices = args[1:3] if name != operator else args[:2]
    return name, *((tuple(matrix.shape), matrix.stride(), matrix.dtype) for matrix in matrices)


def seconds_alone(product: tuple[Any, ...], repeats: int = 5) -> float:
    """Processor time of a matrix product by torch.mm or torch.bmm, on random matrices of its shapes and layouts."""
    import torch

    name, *matrices = product
    inputs = [torch.empty_strided(shape, stride, dtype=dtype).normal_() for shape, stride, dtype in matrices]
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        getattr(torch, name)(*inputs)
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def main(args: argparse.Namespace) -> None:
    import torch

    from kovilt.engine.config import load_config

    torch.set_num_threads(args.threads)
    config = load_config(args.config, [], {})
    batches = make_batches(config, args.texts, args.steps)
    model, optim_wrapper = make_trainer(config, PRECISIONS[args.amp])

    def seconds(batch: Any) -> float:
        start = time.process_time()
        model.train_step([batch], optim_wrapper)
        return time.process_time() - start

    for batch in batches[:WARM_UPS]:
        seconds(batch)
    whole = statistics.median(map(seconds, batches[WARM_UPS:]))
    profile = StepProfile(model)
    for method in ('step', 'zero_grad'):
        setattr(optim_wrapper, method, profile.in_part(OPTIMIZER, getattr(optim_wrapper, method)))
    steps = []
    for batch in batches[WARM_UPS:]:
        profile.run(lambda batch=batch: model.train_step([batch], optim_wrapper))
        steps.append(profile.seconds.copy())
        profile.seconds.clear()
    operators = {key: statistics.median(step[key] for step in steps) for key in set().union(*steps)}
    host = whole - sum(operators.values())
    print(f'{args.config}, {PRECISIONS[args.amp]}, {args.texts} pairs, on {describe_machine("cpu")}\n')
    _print_parts(operators, host, whole)
    _print_operators(operators, host, whole)
    flops = profile.flops / args.steps
    alone = sum(count * seconds_alone(product) for product, count in profile.products.items()) / args.steps
    print(
        f'\n{whole * 1e3:.1f} ms a step, {flops / whole / 1e12:.3f} TFLOP/s. Its matrix products: {flops / 1e9:.1f} '
        f'GFLOP, by torch.mm and torch.bmm alone {alone * 1e3:.1f} ms, {flops / alone / 1e12:.3f} TFLOP/s'
    )


def _print_parts(operators: Mapping[Operator, float], host: float, whole: float) -> None:
    parts: Counter[str] = Counter()
    by_phase: Counter[tuple[str, str]] = Counter()
    for (part, phase, _), seconds in operators.items():
        parts[part] += seconds
        by_phase[part, phase] += seconds
    shown = [part for part, seconds in parts.most_common() if seconds >= LEAST_SHARE * whole]
    rest = [part for part in parts if part not in shown]
    rows = [
        [name, *(sum(by_phase[part, phase] for part in members) for phase in PHASES)]
        for name, members in [*((part, [part]) for part in shown), ('other parts', rest)]
    ]
    print(
        markdown_table(
            ['part', *(f'{phase}, ms' for phase in PHASES), 'share'], _in_ms([*rows, ['host', 0, 0, host]], whole)
        )
    )


def _print_operators(operators: Mapping[Operator, float], host: float, whole: float) -> None:
    by_name: Counter[str] = Counter()
    for (_, _, name), seconds in operators.items():
        by_name[name] += seconds
    rows = [[name, seconds] for name, seconds in by_name.most_common() if seconds >= LEAST_SHARE * whole]
    rest = sum(by_name.values()) - sum(seconds for _, seconds in rows)
    rows += [['other operators', rest], ['host', host]]
    print('\n' + markdown_table(['operator', 'ms', 'share'], _in_ms(rows, whole)))


def _in_ms(rows: list[list[Any]], whole: float) -> list[list[str]]:
    """Rows of a name and seconds, with the share of their sum in the whole."""
    return [
        [name, *(f'{1e3 * value:.1f}' if value else '' for value in seconds), f'{sum(seconds) / whole:.1%}']
        for name, *seconds in rows
    ]


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
