"""What AI-Hub 101 costs in memory: writes a set of its size (small images in a zip), opens it and lets workers read.

python benchmarks/dataset_memory.py --rows 1646080 --workers 2
python benchmarks/dataset_memory.py --rows 7119756 --workers 2     # all of AI-Hub 101
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUBSET = '개인생활환경 이미지 수집'
QUESTIONS_PER_IMAGE = 7
THINGS = ('소파', '의자', '탁자', '침대', '램프', '텔레비전', '냉장고', '화분', '책', '시계', '창문', '고양이')
PLACES = ('거실', '주방', '침실', '현관', '베란다', '욕실', '서재')
PHRASES = ('{} 안에 있는 {} 무슨 색입니까', '{}에 {} 몇 개 있습니까', '{}에서 {} 옆에 무엇이 보이나요', '{}에 {} 있어')


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f'error: {message}\n')


def write_set(folder: Path, rows: int) -> None:
    """The zips of one subset; every question has its own number in it, so that none repeats."""
    from PIL import Image

    chance = random.Random(0)
    jpeg = io.BytesIO()
    Image.new('RGB', (32, 32), 'gray').save(jpeg, 'JPEG')
    images = -(-rows // QUESTIONS_PER_IMAGE)
    names = [f'{chance.getrandbits(128):032x}.jpg' for _ in range(images)]
    with zipfile.ZipFile(folder / f'{SUBSET}.zip', 'w') as archive:
        for number, name in enumerate(names):
            archive.writestr(f'{SUBSET}/{PLACES[number % len(PLACES)]}/{name}', jpeg.getvalue())
    labels = folder / f'[라벨]{SUBSET}'
    labels.mkdir()
    with open(labels / f'{SUBSET}.json', 'w', encoding='utf-8') as file:
        file.write('{"images": [\n')
        for number, name in enumerate(names):
            category = PLACES[number % len(PLACES)]
            entry = {'image_id': number, 'image': name, 'category': category, 'weather': '그외'}
            file.write((',\n' if number else '') + json.dumps(entry, ensure_ascii=False))
        file.write('],\n"question": [\n')
        for number in range(rows):
            text = chance.choice(PHRASES).format(f'{number}번 {chance.choice(PLACES)}', chance.choice(THINGS))
            answer = chance.choice(THINGS) if chance.random() < 0.9 else f'{number // 20} 개'
            question = {
                'question_id': 7_000_000 + number,
                'image_id': number // QUESTIONS_PER_IMAGE,
                'question': text,
                'answer': answer,
                'answer_type': '기타',
            }
            file.write((',\n' if number else '') + json.dumps(question, ensure_ascii=False))
        file.write(']}\n')


def memory(process: int | str = 'self') -> dict[str, float]:
    """Private and shared memory of a process now, in MB."""
    sizes = {}
    for line in Path(f'/proc/{process}/smaps_rollup').read_text().splitlines()[1:]:
        name, size = line.split()[:2]
        sizes[name.rstrip(':')] = int(size) / 1024
    private = sizes['Private_Clean'] + sizes['Private_Dirty']
    return {'private': private, 'shared': sizes['Rss'] - private}


def peak() -> float:
    """The most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: Path, workers: int, batches: int, batch_size: int, token_cache: bool) -> None:
    from torch.utils.data import DataLoader

    from kovilt.datasets import AIHubLivingVQA, GlobalBatchSampler, ImageGroupSampler, collate_pairs, train_tokenizer

    texts = [phrase.format(place, thing) for phrase in PHRASES for place in PLACES for thing in THINGS]
    train_tokenizer([*texts, *(f'{number}번' for number in range(2000))], folder / 'tokenizer', vocab_size=1000)
    before = peak()
    print(f'before opening (Python, torch, transformers): {before:,.0f} MB')
    start = time.process_time()
    dataset = AIHubLivingVQA(
        data_root=str(folder),
        answers={'min_count': 6},
        image_pipeline=[
            {'type': 'LoadImage'},
            {'type': 'ResizeViLT', 'short': 32, 'long': 64, 'divisor': 32},
            {'type': 'Patchify', 'patch_size': 32},
        ],
        text_pipeline=[{'type': 'TokenizeKorean', 'tokenizer': str(folder / 'tokenizer'), 'max_text_len': 40}],
        token_cache=str(folder / 'tokens') if token_cache else None,
    )
    seconds = time.process_time() - start
    print(f'{len(dataset):,} rows, {dataset.num_images:,} images opened in {seconds:.1f} s of the processor')
    print(f'main process: peak {peak():,.0f} MB, of it {peak() - before:,.0f} MB for opening')

    sampler = GlobalBatchSampler(ImageGroupSampler(dataset, shuffle=True, seed=0), batch_size)
    start = time.perf_counter()
    next(iter(sampler))
    print(f'first batch of an epoch drawn in {time.perf_counter() - start:.1f} s; main process: peak {peak():,.0f} MB')

    start = time.perf_counter()
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_pairs, num_workers=workers)
    iterator = iter(loader)
    for number in range(batches):
        next(iterator)
        if number in (0, batches - 1):
            for worker, process in enumerate(iterator._workers):
                sizes = memory(process.pid)
                print(
                    f'worker {worker} after {number + 1:,} batches: {sizes["private"]:,.0f} MB of its own, '
                    f'{sizes["shared"]:,.0f} MB shared'
                )
    rows = batches * batch_size / (time.perf_counter() - start)
    print(f'{rows:,.0f} rows/s with {workers} workers; main process: peak {peak():,.0f} MB')


def main() -> int:
    parser = Parser(description=__doc__.split('\n')[0])
    parser.add_argument('--rows', type=int, default=1_646_080, help='questions (default: those of the paper)')
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--batches', type=int, default=300, help='batches read from the workers')
    parser.add_argument('--batch-size', type=int, default=256)
    parser.add_argument('--token-cache', action='store_true', help='tokenize all texts when the set is opened')
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        training = Path(folder, 'Training')
        training.mkdir()
        start = time.perf_counter()
        write_set(training, args.rows)
        size = sum(file.stat().st_size for file in training.rglob('*') if file.is_file()) / 1e6
        print(f'wrote {args.rows:,} rows, {size:,.0f} MB, in {time.perf_counter() - start:.0f} s')
        measure(Path(folder), args.workers, args.batches, args.batch_size, args.token_cache)
    return 0


if __name__ == '__main__':
    sys.exit(main())
