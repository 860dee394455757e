"""The command `kovilt`: finds the verb, parses its arguments and runs it.

A verb is a module of this package: its docstring is the text of `--help`, `add_arguments(parser)` adds its arguments,
and `run(args)` does the work and returns the exit code (None: 0). A verb is imported when it is used and imports torch,
MMEngine and the like in `run`, so that help and wrong arguments are answered at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from kovilt.cli.process import end_hanging_process, prepare_process
from kovilt.errors import nearest, run_cli
from kovilt.terminal import printable, set_up_output
from kovilt.version import __version__

VERBS = {
    'quickstart': 'try everything: draw data, fine-tune, evaluate, ask (three minutes on two cores)',
    'doctor': 'check packages, devices, fonts and disk; name what is missing and how to install it',
    'train': 'pre-train or fine-tune a config, on one process or several',
    'sweep': 'train a config with several values of its keys and seeds, and rank them',
    'test': 'evaluate a checkpoint: accuracy with its interval, by groups, beside the majority answer',
    'predict': 'answer questions about an image',
    'explain': 'show where a model looks: the patches and words that speak for its answer',
    'serve': 'answer questions over HTTP',
    'demo': 'try a model in the browser: ask, see where it looks, compare two, browse errors',
    'verify': 'find the faults of a data set before training does',
    'browse': 'show samples as training receives them',
    'prepare': 'resize the images of a data set once, for long runs',
    'tokenizer': 'train a Korean WordPiece tokenizer',
    'distill': "write a model's scores of answers, from which a smaller model learns",
    'distance': 'fit which images a model knows, so that it tells of those that are unlike them',
    'rooms': 'draw Rooms, the synthetic data',
    'config': 'print a config as a run reads it, with the origin of each value',
    'export': 'write a trained model as a folder for transformers, onnxruntime or torch.export',
    'import': 'make a model folder of public weights',
    'report': 'write the report of a run anew, or of two runs side by side',
    'compare': 'compare two models by their predictions on the same questions',
    'alignment': 'score word-patch alignment against the boxes of Rooms',
}
MODULES = {'import': 'import_weights'}  # a module cannot be called by a keyword of Python


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line without the word `kovilt` (default: that of the process) and return its exit code.

    With the command line of the process, the process is the command's own, and may be started again.

    Raises:
        SystemExit: after `--help` or a wrong argument, as argparse does.
    """
    from kovilt.cli.arguments import CommandParser

    if argv is None:
        prepare_process()
    set_up_output()
    verb, *arguments = list(sys.argv[1:] if argv is None else argv) or ['--help']
    if verb in ('-h', '--help', 'help'):
        print(overview())
        return 0
    if verb == '--version':
        print(f'kovilt {__version__}')
        return 0
    if verb not in VERBS:
        hint = f'no such verb{nearest(verb, VERBS)}; kovilt --help lists them'
        print(f'error: kovilt {printable(verb)}: {hint}', file=sys.stderr)
        return 2
    module = import_module(f'kovilt.cli.{MODULES.get(verb, verb)}')
    parser = CommandParser(module.__doc__, prog=f'kovilt {verb}')
    module.add_arguments(parser)
    args = parser.parse_args(arguments)

    def run() -> int | None:
        if verb != 'doctor':  # which reports what is wrong instead of stopping at it
            from kovilt.cli.environment import check_environment

            check_environment()
        return module.run(args)

    code = run_cli(run, debug=args.debug)
    if argv is None:
        end_hanging_process(code)
    return code


def overview() -> str:
    """The text of `kovilt --help`."""
    verbs = '\n'.join(f'  {verb:<12}{text}' for verb, text in VERBS.items())
    return (
        'usage: kovilt VERB [arguments]\n\nKorean visual question answering with Ko-ViLT.\n\nverbs:\n'
        f'{verbs}\n\nkovilt VERB --help   the arguments of a verb, with examples\nkovilt --version     the version'
    )
