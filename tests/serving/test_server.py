"""The server as a process and on sockets: it starts, ends and loads its model anew in order, and no client harms it."""

import base64
import http.client
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_models import ANSWERS, IMAGE_PIPELINE, MAX_TEXT_LEN, tiny_config, tiny_model, tiny_tokenizer

from kovilt.serving import server
from kovilt.weights import save_model_folder
from tests.serving.conftest import QUESTIONS, image_file

ROOT = Path(__file__).resolve().parents[2]
BODY = json.dumps({'image': base64.b64encode(image_file()).decode(), 'questions': QUESTIONS}).encode()
HEADER = b'POST /v1/vqa HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n'
WHOLE = HEADER + f'content-length: {len(BODY)}\r\n\r\n'.encode() + BODY


@contextmanager
def connected(address):
    with socket.create_connection(address, timeout=30) as connection:
        yield connection


def exchange(address, content):
    """Send bytes and return the answer up to the end of the connection, or what of it came."""
    with connected(address) as connection:
        try:
            connection.sendall(content)
        except OSError:  # the server has closed the connection
            pass
        return read_all(connection)


def read_all(connection):
    received = b''
    try:
        while part := connection.recv(1 << 16):
            received += part
    except ConnectionResetError:
        pass
    return received


def status_of(answer):
    return int(answer.split(b' ', 2)[1])


def post(address, body=BODY):
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request('POST', '/v1/vqa', body, {'content-type': 'application/json'})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_two_hundred_clients_at_a_time_are_answered_or_told_to_come_again(address):
    with ThreadPoolExecutor(200) as clients:
        results = list(clients.map(lambda _: post(address), range(200)))
    statuses = [status for status, _ in results]
    assert set(statuses) <= {200, 429} and statuses.count(200) >= 8
    answers = {json.dumps(body) for status, body in results if status == 200}
    assert len({re.sub(r'[\d.e-]+', '', answer) for answer in answers}) == 1
    assert post(address)[0] == 200


def test_a_body_of_twenty_megabytes_gets_its_answer(address):
    status, body = post(address, b' ' * 20_000_000)
    assert status == 413 and 'larger than' in body['error']['message']


@pytest.mark.parametrize(
    ('content', 'statuses'),
    [
        (b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' * 9 + b'\r\n\r\n', {400}),  # TLS
        (b'GET / HTTP/1.1\r\nhost: a\r\nx: ' + b'a' * 200_000, {400}),
        (b'NONSENSE\r\n\r\n', {400}),
        (b'GET /../../../etc/passwd HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n', {404}),
        (b'GET /static-offline-docs/../core.py HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n', {404}),
        (b'GET /\xff\xfe HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n', {400, 404}),
        (HEADER + b'content-length: 5\r\ncontent-length: 6\r\n\r\n{}', {400}),
        (HEADER + b'content-length: -1\r\n\r\n{}', {400}),
        (HEADER + b'content-length: 99999999999\r\n\r\n{}', {413}),
        (HEADER + b'transfer-encoding: chunked\r\n\r\nzz\r\n', {400}),
        (HEADER + b'expect: 100-continue\r\ncontent-length: 20000000\r\n\r\n', {413}),
        (b'POST /v1/vqa HTTP/1.0\r\ncontent-type: application/json\r\n\r\n', {400}),
        (b'GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade, close\r\n\r\n', {200, 400, 426}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_request_is_refused(address, content, statuses):
    if b'99999999999' in content or b'chunked' in content:
        with connected(address) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)  # else the server reads on for a while
            answer = read_all(connection)
    else:
        answer = exchange(address, content)
    assert answer == b'' and 413 in statuses or status_of(answer) in statuses
    assert b'Traceback' not in answer and post(address)[0] == 200


def test_chunks_without_an_end_are_cut_off(address):
    with connected(address) as connection:
        connection.sendall(HEADER + b'transfer-encoding: chunked\r\n\r\n')
        chunk, sent = b'100000\r\n' + b' ' * 0x100000 + b'\r\n', 0
        with pytest.raises(OSError):
            for sent in range(500):  # noqa: B007
                connection.sendall(chunk)
    assert 7 < sent < 200
    assert post(address)[0] == 200


def test_a_header_that_does_not_come_is_not_waited_for(address, monkeypatch):
    monkeypatch.setattr(server, 'HEADER_SECONDS', 0.1)
    for begun in (b'', b'GET /health HTTP/1.1\r\nhost: '):
        assert exchange(address, begun) == b''
    with connected(address) as connection:  # also not after an answered request
        connection.sendall(b'GET /health HTTP/1.1\r\nhost: a\r\n\r\nGET /hea')
        answer = read_all(connection)
    assert status_of(answer) == 200 and answer.count(b'HTTP/1.1') == 1


def test_a_client_that_takes_no_answer_is_cut_off(address, monkeypatch):
    cut, end_if_not_taken = threading.Event(), server.TimedProtocol._abort_unless_taken

    def noted(protocol, waiting):
        end_if_not_taken(protocol, waiting)
        if protocol.transport.is_closing():
            cut.set()

    monkeypatch.setattr(server, 'TAKE_SECONDS', 0.2)
    monkeypatch.setattr(server.TimedProtocol, '_abort_unless_taken', noted)
    path, number = b'/static-offline-docs/swagger-ui-bundle.js', 20
    with connected(address) as connection:
        connection.sendall(b'GET %b HTTP/1.1\r\nhost: a\r\n\r\n' % path * number)
        assert cut.wait(60)
        answer = read_all(connection)
    assert answer.count(b'HTTP/1.1 200') < number and post(address)[0] == 200


def test_clients_that_go_before_their_answer_do_no_harm(address):
    for content in (WHOLE, WHOLE[:-10], HEADER):
        for _ in range(5):
            with connected(address) as connection:
                connection.sendall(content)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')  # a reset, no farewell
    deadline = time.monotonic() + 60
    while (status := post(address)[0]) == 429:  # until it is known that they have gone
        assert time.monotonic() < deadline
    assert status == 200


def test_the_examples_of_the_page_are_answered(address, tmp_path, monkeypatch, capsys):
    pages = [(ROOT / 'docs' / language / 'serve.md').read_text('utf-8') for language in ('en', 'ko')]
    blocks, same = (re.findall(r'^```(\w+)\n(.*?)^```$', page, re.M | re.S) for page in pages)
    assert blocks == same
    (tmp_path / 'room.jpg').write_bytes(image_file(kind='JPEG'))
    monkeypatch.chdir(tmp_path)
    place = '{}:{}'.format(*address)
    (code,) = (block for language, block in blocks if language == 'python')
    exec(code.replace('127.0.0.1:8000', place).replace("model='model'", "model='tiny'"), {})
    assert capsys.readouterr().out.strip() in ANSWERS
    (line,) = (block for language, block in blocks if language == 'bash' and block.startswith('curl'))
    if not shutil.which('curl'):
        pytest.skip('no curl: the command with it is not run')
    words = shlex.split(line.replace('127.0.0.1:8000', place))
    answers = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)['answers']
    assert len(answers) == 2 and len(answers[0]['topk']) == 3


def test_an_address_in_use_and_bad_values_are_refused_in_one_line(call, folder, tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        code, _, said = call('serve', folder, '--port', taken.getsockname()[1])
        assert code == 2 and 'cannot be used (Address already in use); name another' in said
    for arguments, message in (
        (('--max-batch', 0), 'max_batch is 0'),
        (('--threshold', 2), 'threshold is 2'),
        (('--abstention', ' '), 'abstention: it is empty'),
        (('--port', 70000), 'port is 70,000; it must be|port is 70000'),
        (('--timeout', 'nan'), 'timeout is nan'),
        (('--max-image-mb', -1), 'max_image_mb is -1'),
        (('--token', '한글'), 'token: '),
        (('--host', 'no such host'), 'cannot be used'),
        (('--max-wait-ms', 'soon'), 'invalid float value'),
    ):
        code, _, said = call('serve', folder, '--port', 0, *arguments)
        assert code == 2 and re.search(message, said) and said.startswith('error: ') and len(said.splitlines()) == 1
    code, _, said = call('serve', tmp_path / 'none', '--port', 0)
    assert code == 2 and 'none: no such model folder' in said


def test_without_the_extra_the_command_that_installs_it_is_named(call, folder, monkeypatch):
    from kovilt.cli import environment

    version = environment.installed_version
    monkeypatch.setattr(
        environment, 'installed_version', lambda name: None if name in ('fastapi', 'uvicorn') else version(name)
    )
    code, _, said = call('serve', folder)
    assert code == 2 and re.fullmatch(
        r"error: fastapi>=[\d.]+, uvicorn>=[\d.]+: not installed; run: pip install 'kovilt\[serve\]'\n", said
    )


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_model_is_loaded_ends_the_command_in_order(call, folder, monkeypatch, number):
    def load(settings):
        assert signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        signal.raise_signal(number)
        raise AssertionError('it goes on')

    monkeypatch.setattr(server, 'create', load)
    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    assert call('serve', folder, '--port', 0) == (0, '', '')
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def save_model(out: Path, answers) -> None:
    save_model_folder(
        tiny_model(answers=answers),
        tiny_tokenizer(),
        out,
        model_cfg=tiny_config(num_answers=len(answers)),
        image_pipeline=IMAGE_PIPELINE,
        max_text_len=MAX_TEXT_LEN,
    )


@contextmanager
def serving(folder: Path, *options: str):
    """`kovilt serve` as a process, and its address."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'kovilt', 'serve', folder, '--port', '0', '--device', 'cpu', *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {'PYTHONUNBUFFERED': '1'},
    )
    try:
        line = process.stdout.readline()
        host, port = re.match(r'http://([\d.]+):(\d+): model is served', line).groups()
        yield process, (host, int(port))
    finally:
        process.kill()
        process.communicate()


def answers_of(address):
    status, body = post(address)
    assert status == 200, body
    return {one['answer'] for one in body['answers']}


def test_a_reload_and_an_end_lose_no_request(tmp_path):
    """SIGHUP loads another model while requests are answered; SIGTERM lets one that is being sent come to its end."""
    old, new = ({'하나', '둘'}, {'셋', '넷'})
    save_model(tmp_path / 'model', sorted(old))
    with serving(tmp_path / 'model') as (process, address):
        assert answers_of(address) <= old
        shutil.rmtree(tmp_path / 'model')
        save_model(tmp_path / 'model', sorted(new))
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 120
        while not answers_of(address) <= new:
            assert time.monotonic() < deadline
        with connected(address) as connection:
            connection.sendall(WHOLE[:-20])
            assert post(address)[0] == 200  # so the other request is being read
            process.send_signal(signal.SIGTERM)
            with pytest.raises((ConnectionRefusedError, ConnectionResetError)):  # reset: while the listener is closed
                while time.monotonic() < deadline:
                    socket.create_connection(address, timeout=5).close()
            connection.sendall(WHOLE[-20:])
            answer = read_all(connection)
        assert status_of(answer) == 200 and b'answers' in answer
        rest, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert errors == 'the model was loaded anew\n'
        lines = [json.loads(row) for row in rest.splitlines()]
        assert {one['path'] for one in lines} == {'/v1/vqa'} and {one['status'] for one in lines} == {200}


def workers_of(process):
    """The process ids of the workers; the parent also has a process of multiprocessing, which answers nothing."""
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    return {int(child) for child in children if b'spawn_main' in Path(f'/proc/{child}/cmdline').read_bytes()}


def test_a_worker_may_be_killed_and_all_load_a_model_anew(tmp_path):
    """The other one answers, and a new one takes its place; SIGHUP reaches both."""
    old, new = ({'하나', '둘'}, {'셋', '넷'})
    save_model(tmp_path / 'model', sorted(old))
    with serving(tmp_path / 'model', '--workers', '2') as (process, address):
        deadline = time.monotonic() + 120
        threading.Thread(target=process.stdout.read, daemon=True).start()  # else the workers wait for a reader
        assert answers_of(address) <= old
        killed = min(workers_of(process))
        os.kill(killed, signal.SIGKILL)
        while killed in workers_of(process) or len(workers_of(process)) < 2:
            assert answers_of(address) <= old and time.monotonic() < deadline
        # The new one may not have begun to load the model: without it, or ended by SIGHUP, it is started once more.
        shutil.rmtree(tmp_path / 'model')
        save_model(tmp_path / 'model', sorted(new))
        process.send_signal(signal.SIGHUP)
        in_turn = 0
        while in_turn < 20:
            in_turn = in_turn + 1 if answers_of(address) <= new else 0
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert 'Traceback' not in process.stderr.read()


def test_the_requests_of_a_dead_worker_are_no_longer_counted(tmp_path, monkeypatch):
    monkeypatch.setenv('PROMETHEUS_MULTIPROC_DIR', str(tmp_path))
    files = [tmp_path / f'gauge_livesum_{pid}.db' for pid in (11, 12)]
    for file in files:
        file.touch()
    workers = fake_workers(11, 12)

    def replace(self):
        self.processes[0] = fake_workers(13).processes[0]

    monkeypatch.setattr(server.Multiprocess, 'keep_subprocess_alive', replace)
    workers.keep_subprocess_alive()
    assert [file.exists() for file in files] == [False, True]


def fake_workers(*pids):
    """Workers that are not ready, without the signals and processes of real ones."""
    workers = server._Workers.__new__(server._Workers)
    workers.said = []
    workers._announce = lambda: workers.said.append('served')
    workers.processes = [SimpleNamespace(pid=pid, child_conn=io.BytesIO(), is_ready=lambda: False) for pid in pids]
    return workers


def test_workers_are_announced_once_when_the_first_can_answer(monkeypatch):
    workers = fake_workers(11, 12)
    monkeypatch.setattr(server.Multiprocess, 'keep_subprocess_alive', lambda self: None)
    workers.keep_subprocess_alive()
    assert workers.said == []
    for worker in reversed(workers.processes):
        worker.is_ready = lambda: True
        workers.keep_subprocess_alive()
        assert workers.said == ['served']


def test_a_worker_whose_parent_is_gone_ends_before_it_loads_a_model(monkeypatch):
    asked = []
    monkeypatch.setattr(server, 'end_with_parent', asked.append)
    monkeypatch.setattr(server.multiprocessing, 'parent_process', lambda: SimpleNamespace(is_alive=lambda: False))
    monkeypatch.setattr(server, 'create', lambda settings: pytest.fail('it loads the model'))
    with pytest.raises(SystemExit):
        server._worker_app(server.ServerSettings(model='none'), failure=7)
    assert asked == [signal.SIGTERM]
