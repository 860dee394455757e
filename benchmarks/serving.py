"""Requests a second of `kovilt serve`, beside what the model alone reaches on prepared pairs; wall time, on loopback.

    python -m benchmarks.serving                                     # base size, new weights
    python -m benchmarks.serving --encoder PrefixViLT --clients 32
    python -m benchmarks.serving --requests 0 --memory-requests 10000

Each client sends one request after the other, with one question about an image of 640 x 480 pixels, as JSON. "Repeated"
images are 8, which the cache holds; "distinct" ones are so many that it never does. The last lines compare with
transformers' ViLT behind the same server without batches, and tell the memory of the server over many requests.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.memory import process_memory
from benchmarks.report import markdown_table
from benchmarks.timing import describe_machine
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import run_cli

QUESTION = '소파는 무슨 색이에요?'
CACHED = 32  # images that the server keeps prepared
IMAGES = {'repeated': 8, 'distinct': 4 * CACHED}
BATCH = 32


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('--model', type=Path, help='model folder (default: a new one of base size)')
    parser.add_argument('--encoder', choices=('ViLT', 'PrefixViLT'), default='ViLT', help='of the new model (ViLT)')
    parser.add_argument('--device', default='cpu', help='(default: cpu)')
    parser.add_precision()
    parser.add_argument(
        '--clients', type=at_least(1), nargs='+', default=[1, 8, 32, 128], metavar='C', help='at a time'
    )
    parser.add_argument('--requests', type=at_least(0), default=400, metavar='N', help='of each measurement (400)')
    parser.add_argument('--memory-requests', type=at_least(0), default=0, metavar='N', help='0 = not measured')
    parser.add_argument('--serve-transformers', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    if args.serve_transformers:
        serve_transformers(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        args.model = args.model or save_base_model(Path(folder) / 'model', args.encoder)
        measure(args)


def measure(args: argparse.Namespace) -> None:
    print(f'{describe_machine(args.device)}; {args.precision}\n')
    bodies = {name: [make_body(seed) for seed in range(count)] for name, count in IMAGES.items()}
    options = [
        '--max-batch',
        str(BATCH),
        '--cache-images',
        str(CACHED),
        '--max-queue',
        '1000',
        '--timeout',
        '600',
        '--port',
        '0',
    ]
    rows: list[list[Any]] = []
    with running('kovilt', 'serve', str(args.model), *options, *common(args)) as server:
        if args.requests:
            alone = time_model(args, bodies['distinct'])
            rows.append(['the model alone', BATCH, alone, 100.0, None, None, None])
            for name, clients in ((name, clients) for name in bodies for clients in args.clients):
                print(f'{name} images, {clients} clients', file=sys.stderr)
                rate, times = asyncio.run(load(server.port, bodies[name], clients, args.requests))
                rows.append([f'{name} images', clients, rate, 100 * rate / alone, *percentiles(times)])
        if args.memory_requests:
            show_memory(server, bodies['distinct'], args.memory_requests)
    if args.requests and (args.model / 'model.safetensors').is_file():  # not of a PrefixViLT, which others cannot load
        words = ('benchmarks.serving', '--serve-transformers', '--model', str(args.model))
        with running(*words, '--device', args.device) as server:
            for clients in args.clients:
                rate, times = asyncio.run(load(server.port, bodies['distinct'], clients, args.requests))
                share = 100 * rate / alone
                rows.append(['distinct images, transformers', clients, rate, share, *percentiles(times)])
    if rows:
        head = ['', 'clients', 'requests/s', '% of the model', 'p50 ms', 'p95 ms', 'p99 ms']
        print(markdown_table(head, rows))


def common(args: argparse.Namespace) -> list[str]:
    return ['--device', args.device, '--precision', args.precision]


# What is asked


def save_base_model(folder: Path, encoder: str) -> Path:
    from benchmarks.fixtures import base_model, save_folder

    return save_folder(base_model(type=encoder), folder)


def make_body(seed: int) -> bytes:
    """The JSON of a request about a JPEG of 640 x 480 pixels with shapes, of about 60 kB."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    image, content = Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC), io.BytesIO()
    image.save(content, 'JPEG', quality=90)
    return json.dumps({'image': base64.b64encode(content.getvalue()).decode(), 'questions': [QUESTION]}).encode()


def time_model(args: argparse.Namespace, bodies: Sequence[bytes]) -> float:
    """Pairs a second of the model on batches of prepared pairs, in this process, while the server rests."""
    from kovilt.apis import VQAInferencer
    from kovilt.apis.vqa import PreparedPair

    inferencer = VQAInferencer(args.model, device=args.device, precision=args.precision, image_cache_size=0)
    question = inferencer.transforms.read_question(QUESTION)
    files = [base64.b64decode(json.loads(body)['image']) for body in bodies[:BATCH]]
    images = [inferencer.transforms.read_image(file) for file in files]
    times = []
    for _ in range(6):
        start = time.perf_counter()
        encoded = [inferencer.encode_image(image) for image in images]
        inferencer.answer_pairs([PreparedPair(i, image, question) for i, image in enumerate(encoded)], 5)
        times.append(time.perf_counter() - start)
    return len(images) / statistics.median(times[1:])


# The server and its load


class RunningServer(NamedTuple):
    """A server in a process of its own."""

    pid: int
    port: int


@contextmanager
def running(module: str, *arguments: str) -> Iterator[RunningServer]:
    command = [sys.executable, '-m', module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.match(r'http://127\.0\.0\.1:(\d+)', line)
            if not found:
                raise RuntimeError(f'the server has not started: {line}')
            server = RunningServer(process.pid, int(found[1]))
            log = threading.Thread(target=process.stdout.read, daemon=True)  # else the server waits for a reader
            log.start()
            asyncio.run(load(server.port, [make_body(0)], 1, 3))  # warm-up
            yield server
        finally:
            process.terminate()


async def load(port: int, bodies: Sequence[bytes], clients: int, requests: int) -> tuple[float, list[float]]:
    """Requests a second, and the seconds of each, of so many clients; every client keeps its connection.

    Written here because a load tool of Python, such as locust, would take a good part of the processors that the
    server computes on. Requests are bounded in number.
    """
    times: list[float] = []
    numbers = iter(range(requests))

    async def client() -> None:
        reader, writer = await asyncio.open_connection('127.0.0.1', port)
        for number in numbers:
            body = bodies[number % len(bodies)]
            begun = time.perf_counter()
            writer.write(
                b'POST /v1/vqa HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n'
                b'content-length: %d\r\n\r\n%b' % (len(body), body)
            )
            header = await reader.readuntil(b'\r\n\r\n')
            (length,) = re.findall(rb'(?i)content-length: (\d+)', header)
            await reader.readexactly(int(length))
            if not header.startswith(b'HTTP/1.1 200'):
                raise RuntimeError(header.decode())
            times.append(time.perf_counter() - begun)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return requests / (time.perf_counter() - start), times


def percentiles(times: list[float]) -> list[float]:
    """Milliseconds that 50, 95 and 99 % of the requests do not exceed."""
    import numpy as np

    return [1000 * float(time) for time in np.percentile(times, (50, 95, 99))]


def show_memory(server: RunningServer, bodies: Sequence[bytes], requests: int) -> None:
    parts = [0, *(requests * part // 10 for part in range(1, 11))]
    sizes = [process_memory(server.pid).private / 1e6]
    for before, after in zip(parts, parts[1:], strict=False):
        asyncio.run(load(server.port, bodies, BATCH, after - before))
        sizes.append(process_memory(server.pid).private / 1e6)
    print(
        markdown_table(
            ['requests', 'private MB'], [[f'{part:,}', size] for part, size in zip(parts, sizes, strict=True)]
        )
    )


def serve_transformers(args: argparse.Namespace) -> None:
    """kovilt's server with transformers' ViLT in the place of the model: an image and a question at a time."""
    import torch
    from PIL import Image
    from transformers import AutoProcessor, ViltForQuestionAnswering

    from kovilt.serving import server
    from kovilt.serving.engine import Engine
    from kovilt.serving.settings import ServerSettings

    processor = AutoProcessor.from_pretrained(args.model)
    model = ViltForQuestionAnswering.from_pretrained(args.model).to(args.device).eval()
    create = server.create

    def create_with_transformers(settings: ServerSettings) -> Any:
        app = create(settings)
        engine: Engine = app.state.service.engine
        engine.inferencer.transforms.read_image = lambda content, name='image': {  # type: ignore[method-assign]
            'image': Image.open(io.BytesIO(content)).convert('RGB')
        }
        engine.answer = lambda jobs: [  # type: ignore[method-assign]
            {**answer(job.image.content['image']), 'unknown_token_share': 0.0, 'warnings': []} for job in jobs
        ]
        return app

    @torch.inference_mode()
    def answer(image: Image.Image) -> dict[str, Any]:
        inputs = processor(image, QUESTION, return_tensors='pt').to(args.device)
        score, label = model(**inputs).logits.softmax(dim=1)[0].max(dim=0)
        best = {'answer': model.config.id2label[int(label)], 'score': float(score)}
        return best | {'topk': [best]}

    server.create = create_with_transformers
    settings = ServerSettings(
        model=str(args.model), device=args.device, port=0, max_batch=1, max_wait_ms=0, max_queue=1000, timeout=600
    )
    server.serve(settings)


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
