"""The server of the demo: what it refuses, that it reaches no other machine, and that it leaves nothing behind."""

import http.client
import json
import os
import signal
import socket
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.demo_screenshots import running_demo
from kovilt.errors import KoviltError
from kovilt.serving.demo import server
from kovilt.serving.demo.settings import DemoSettings


@pytest.fixture(scope='module')
def address():
    with running_demo(max_image_mb=0.2) as address:
        yield urlsplit(address).netloc


def request(address, method, path, body=None, **headers):
    """The status, the headers and the body of an answer."""
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read().decode(errors='replace')


def upload(address, content, name='room.jpg'):
    part = f'--x\r\ncontent-disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    body = part + content + b'\r\n--x--\r\n'
    kind = {'content-type': 'multipart/form-data; boundary=x'}
    return request(address, 'POST', '/ko/gradio_api/upload', body, **kind)


def call(address, name, *arguments):
    """What an event answers."""
    body = json.dumps({'data': arguments})
    status, _, text = request(
        address, 'POST', f'/ko/gradio_api/call/{name}', body, **{'content-type': 'application/json'}
    )
    assert status == 200, text
    return request(address, 'GET', f'/ko/gradio_api/call/{name}/{json.loads(text)["event_id"]}')[2]


@pytest.mark.parametrize(
    ('preferred', 'language'),
    [('ko-KR,ko;q=0.9,en;q=0.8', 'ko'), ('en-US,en', 'en'), ('de,ko;q=0.5', 'ko'), ('fr', 'en'), ('', 'en')],
)
def test_the_language_is_that_of_the_browser(address, preferred, language):
    status, headers, _ = request(address, 'GET', '/', **{'accept-language': preferred})
    assert status == 307 and headers['location'] == f'{language}/'
    assert request(address, 'GET', f'/{language}/')[0] == 200


@pytest.mark.parametrize('path', ['/favicon.ico', '/manifest.json'])
def test_what_browsers_ask_for_is_there(address, path):
    status, headers, _ = request(address, 'GET', path)
    assert status == 307 and request(address, 'GET', f'/{headers["location"]}')[0] == 200


def test_it_is_reached_by_the_names_of_this_machine_alone(address):
    assert request(address, 'GET', '/', host='elsewhere.example')[0] == 400
    for name in ('localhost', '127.0.0.1:7860', '[::1]:7860'):
        assert request(address, 'GET', '/', host=name)[0] == 307


def test_uploads_are_bounded(address, examples):
    content = open(examples[0].image, 'rb').read()
    assert upload(address, content)[0] == 200
    assert upload(address, bytes(300_000))[0] == 413
    assert upload(address, bytes(2_000_000))[0] == 413
    assert request(address, 'POST', '/ko/gradio_api/queue/join', b' ' * 2_000_000)[0] in (413, 422)


def test_a_question_about_an_uploaded_image_is_answered(address, examples):
    path = json.loads(upload(address, open(examples[0].image, 'rb').read())[2])[0]
    image = {'path': path, 'orig_name': 'room.jpg', 'meta': {'_type': 'gradio.FileData'}}
    answer = call(address, 'on_ask', image, examples[0].question)
    assert 'event: complete' in answer and '"confidences"' in answer


@pytest.mark.parametrize('path', ['/etc/hostname', __file__, 'http://192.0.2.1/room.jpg', 'file:///etc/hostname'])
def test_no_other_file_and_no_address_is_read(address, path):
    assert request(address, 'GET', f'/ko/gradio_api/file={path}')[0] >= 400
    image = {'path': path, 'orig_name': 'room.jpg', 'meta': {'_type': 'gradio.FileData'}}
    assert 'event: error' in call(address, 'on_ask', image, '의자가 있어요?')
    assert not list(Path(os.environ['GRADIO_TEMP_DIR']).rglob('hostname'))


def test_no_other_machine_is_reached_while_it_runs(address):
    with pytest.raises(PermissionError, match="opens no connection to '192.0.2.1'"):
        socket.create_connection(('192.0.2.1', 80), timeout=1)
    with pytest.raises(PermissionError, match='opens no connection to'):
        socket.getaddrinfo('kovilt.example', 80)
    assert socket.getaddrinfo('localhost', 80)


def test_nothing_is_left_behind(tmp_path, examples, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    monkeypatch.setenv('GRADIO_TEMP_DIR', 'before')
    monkeypatch.chdir(tmp_path)
    with running_demo() as address:
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
        path = json.loads(upload(urlsplit(address).netloc, open(examples[0].image, 'rb').read())[2])[0]
        assert path.startswith(f'{folder.resolve()}{os.sep}') and os.path.isfile(path)
    assert not list(tmp_path.iterdir())
    assert tempfile.tempdir == str(tmp_path) and os.environ['GRADIO_TEMP_DIR'] == 'before'
    assert socket.getaddrinfo('192.0.2.1', 80)  # other programs of this process may connect again


def test_a_signal_ends_it_with_code_0(tmp_path, monkeypatch, call):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))

    async def started(self, sockets=None):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(server.DemoServer, 'startup', started)
    code, out, _ = call('demo', '--port', 0, '--device', 'cpu', '--host', '0.0.0.0')  # noqa: S104  # nothing is served
    assert code == 0 and not list(tmp_path.iterdir())
    shown, warning = out.splitlines()
    assert shown.startswith('http://0.0.0.0:') and shown.endswith(': the demo of rooms; Ctrl-C ends it')
    assert warning.startswith('warning: everybody who reaches this address')


def test_an_address_that_is_taken_is_named(address):
    port = int(address.rpartition(':')[2])
    with pytest.raises(KoviltError, match=f'127.0.0.1, port {port}: cannot be used .*; name another --host or --port'):
        with server.open_demo(DemoSettings(port=port)):
            raise AssertionError
