"""The verbs of kovilt one after the other, on a machine that lacks something: python every_verb.py FOLDER.

FOLDER gets all that they write, and results.json: their exit codes and the connections that were tried. The process has
no network and, with NO_USER in the environment, a user without an entry in the list of users.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

TRIED: list[str] = []


def refuse_connections(event: str, arguments: tuple[Any, ...]) -> None:
    if event == 'socket.getaddrinfo' or (event == 'socket.connect' and isinstance(arguments[1], tuple)):
        TRIED.append(repr(arguments))
        raise OSError(101, 'Network is unreachable')


def find_no_user(number: int) -> Any:
    raise KeyError(number)


if __name__ == '__main__':
    from kovilt.cli.main import main

    sys.addaudithook(refuse_connections)
    if 'NO_USER' in os.environ:
        pwd.getpwuid = find_no_user
    folder, codes = Path(sys.argv[1]), {}
    data = folder / '자료 rooms'
    arguments = [('rooms', data, '--images', '12', '--val-images', '4', '--workers', '2')]
    sys.argv[1:] = map(str, arguments[0])
    codes['rooms'] = main()  # with the command line of the process, as the command itself
    sys.argv[1:] = [str(folder)]  # of the program, should it be started again: this line stands after the start

    from tiny_rooms import tiny_config

    os.environ['KOVILT_ROOMS'] = str(data)
    captions, questions, tokenizer = data / 'captions', data / 'vqa', data / 'tokenizer'
    backends = [{'type': 'LocalVisBackend'}, {'type': 'TensorboardVisBackend'}]
    more = f'# 한국어 주석\nvisualizer = {dict(type="Visualizer", vis_backends=backends)}'
    config = tiny_config(folder / '설정 vqa.py', steps=2, more=more)
    run, model, predictions = folder / '결과 run', folder / '모델 model', folder / '예측.jsonl'
    image = min(captions.glob('*/*.jpg'))
    report = ('--json', folder / '보고.json', '--html', folder / '보고.html')
    options = ('--cfg-options', 'train_dataloader.num_workers=2')
    ask = ('predict', model, image, '소파는 무슨 색이에요?', '--device', 'cpu')
    for name, *words in (
        ('tokenizer', tokenizer, '--vocab-size', 300, '--captions', captions, '--questions', questions),
        ('config', config, 'model'),
        ('verify', questions, '--workers', 1, *report),
        ('browse', config, '--out', folder / '표본', '--count', 2),
        ('prepare', config, folder / '준비', '--workers', 1),
        ('train', config, '--work-dir', run, *options),
        ('train', config, '--work-dir', run, '--resume', *options),
        ('test', config, run, '--out', predictions),
        ('compare', predictions, predictions),
        ('export', run / 'iter_2.pth', model),
        ask,
        (*ask, '--json'),
        ('doctor',),
    ):
        print(f'$ {name}', flush=True)
        number = len(codes)
        codes[f'{number} {name}'] = main([name, *map(str, words)])
    (folder / 'results.json').write_text(json.dumps({'codes': codes, 'tried': TRIED}), encoding='utf-8')
