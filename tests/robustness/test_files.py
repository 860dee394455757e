"""One gate for files from outside: regular files of a fitting size pass, everything else is one line, at once."""

import ast
import os
import socket
import unicodedata
from pathlib import Path

import pytest

import kovilt
from kovilt.errors import KoviltError
from kovilt.files import MAX_BYTES, check_file, file_sha256, open_file, read_bytes, read_json, read_text

KINDS = list(MAX_BYTES)


def refusal(call, *args):
    """The one line with which a call refuses its input."""
    with pytest.raises(KoviltError) as caught:
        call(*args)
    message = str(caught.value)
    assert '\n' not in message
    return message


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    there = os.getcwd()
    os.chdir(path.parent)  # the path of a socket may have only 108 characters
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(there)


def make_device(path):
    path.symlink_to('/dev/zero')


def make_loop(path):
    path.symlink_to(path.name)


def make_dangling_link(path):
    path.symlink_to('nowhere')


NOT_REGULAR = {
    make_pipe: 'no regular file but a pipe',
    make_socket: 'no regular file but a socket',
    make_device: 'no regular file but a device',
    make_loop: 'cannot be read (Too many levels of symbolic links)',
    make_dangling_link: 'a link to nowhere, which does not exist',
    Path.mkdir: 'is a folder',
}


@pytest.mark.parametrize('make, reason', NOT_REGULAR.items(), ids=lambda value: getattr(value, '__name__', ''))
@pytest.mark.parametrize('kind', KINDS)
def test_only_regular_files_pass(tmp_path, make, reason, kind):
    make(tmp_path / 'a')
    for call in (open_file, check_file, read_bytes, read_text, file_sha256):
        assert refusal(call, tmp_path / 'a', kind).startswith(f'{tmp_path / "a"}: {reason}')
    (tmp_path / 'link').symlink_to('a')
    refusal(open_file, tmp_path / 'link', kind)


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_has_at_most_the_bytes_of_its_kind(tmp_path, kind):
    with open(tmp_path / 'a', 'wb') as file:  # sparse: it takes no place
        file.truncate(MAX_BYTES[kind])
    open_file(tmp_path / 'a', kind).close()
    os.truncate(tmp_path / 'a', MAX_BYTES[kind] + 1)
    for call in (open_file, check_file, read_bytes, file_sha256):
        assert f'{MAX_BYTES[kind] + 1:,} bytes, but files of this kind ({kind})' in refusal(call, tmp_path / 'a', kind)


def test_three_gigabytes_of_nothing_are_refused_before_they_are_read(tmp_path):
    with open(tmp_path / 'a', 'wb') as file:
        file.truncate(3 << 30)
    large = [kind for kind in KINDS if MAX_BYTES[kind] > 3 << 30]
    assert large == ['weights', 'zip', 'archive', 'prepared', 'answers']  # none is read whole
    assert '3,221,225,472 bytes' in refusal(read_json, tmp_path / 'a')


@pytest.mark.parametrize('name', ['a\0b', '\ud800', 'x' * 256, 'a/' * 3000, '한' * 90, 'file/b'])
def test_a_name_that_no_file_can_have(tmp_path, name):
    (tmp_path / 'file').touch()
    assert 'cannot be read (' in refusal(open_file, f'{tmp_path}/{name}', 'image')


def test_a_file_of_proc_has_no_size(tmp_path):
    assert 'grows while it is read' in refusal(read_bytes, '/proc/self/maps', 'JSON')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read every file')
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / 'a').touch(0)
    assert 'cannot be read (Permission denied)' in refusal(open_file, tmp_path / 'a', 'image')


@pytest.mark.parametrize(
    'wanted, there',
    [('a.jpg', 'A.JPG'), (unicodedata.normalize('NFC', '사진'), unicodedata.normalize('NFD', '사진'))],
)
def test_a_name_of_other_case_or_composition_is_hinted(tmp_path, wanted, there):
    (tmp_path / there).touch()
    assert f'no such file; there is {there!r}' in refusal(open_file, tmp_path / wanted, 'image')
    (tmp_path / there).rename(tmp_path / 'other')
    assert refusal(open_file, tmp_path / wanted, 'image').endswith('no such file')


def test_text_without_its_mark(tmp_path):
    (tmp_path / 'a').write_bytes('\ufeff소파'.encode())
    assert read_text(tmp_path / 'a', 'table') == '소파'
    (tmp_path / 'a').write_bytes('소파'.encode('cp949'))
    assert 'not UTF-8 text but CP949' in refusal(read_text, tmp_path / 'a', 'table')


# Calls that open a file by its path, and where they may stand besides kovilt/files.py: what kovilt has written itself,
# or what has passed `open_file` or `check_file` before.
OPENING = {
    *('open', 'read_text', 'read_bytes', 'ZipFile', 'is_zipfile', 'memory_map', 'memmap', 'fromfile', 'genfromtxt'),
    *('loadtxt', 'load_file', 'safe_open', 'InferenceSession', 'torch.load', 'torch.jit.load', 'torch.export.load'),
    *('np.load', 'json.load', 'imread', 'open_csv', 'read_csv', 'read_table', 'read_feather', 'fromfile', 'os.open'),
}
ALLOWED = {
    'cli/config.py': {"config.read_text(encoding='utf-8')"},  # kovilt's own configs
    'cli/environment.py': {"file.read_text('utf-8')"},  # kovilt's own requirements
    'cli/launch.py': {  # of the kernel, and written by processes of its own
        "Path(f'/proc/{process}/status').read_text()",
        'children.read_text()',
        "told.read_text('ascii')",
    },
    'datasets/image_formats.py': {'Image.open(io.BytesIO(content), formats=_FORMATS)'},  # not a path
    'datasets/image_store.py': {'place.read_bytes()'},  # of a Member
    'datasets/prepared.py': {"np.memmap(path, dtype=np.uint8, mode='r', offset=HEADER_BYTES)"},  # checked on opening
    'datasets/readers/aihub_dialogue.py': {'file.open()'},  # of a JSONFile
    'datasets/readers/aihub_living.py': {'file.open()'},
    'datasets/readers/webdataset.py': {'file.read_bytes()'},  # of a Member
    'datasets/recognition.py': {'file.open()'},  # of a JSONFile
    'datasets/row_cache.py': {'path.read_bytes()'},  # of modules that are imported already
    'datasets/table.py': {'pa.memory_map(path)'},  # after check_file
    'datasets/table_files.py': {'pa.memory_map(path)'},  # after check_file
    'datasets/tar_files.py': {  # of an opened file
        "tarfile.open(fileobj=file, mode='r:', encoding='utf-8', errors='surrogateescape')"
    },
    'datasets/transforms/load_image.py': {'path.read_bytes()'},  # of a Member or PreparedImage
    'datasets/tokenizer_training.py': {'file.read_bytes()'},  # just written
    'datasets/zip_files.py': {'zipfile.ZipFile(file)'},  # of an opened file
    'engine/config.py': {'Config.fromfile(path)'},  # parsed by parse_config_files before
    'engine/run_facts.py': {'path.read_bytes()'},  # of modules that are imported already
    'engine/config_origins.py': {'Config.fromfile(base)'},
    'errors.py': {'os.open(os.devnull, os.O_WRONLY)'},
    'formats/checkpoint.py': {  # after check_torch_file, or check_file where no tensor is read
        "torch.load(path, map_location='meta', weights_only=True, mmap=True)",
        'torch.load(path, map_location=map_location, weights_only=True)',
        'zipfile.is_zipfile(path)',
    },
    'formats/tensor_files.py': {  # after check_file
        'load_file(path, device=str(map_location))',
        "safe_open(path, framework='pt')",
    },
    'formats/torch_file.py': {'zipfile.ZipFile(file)'},  # of an opened file
    'recipes/quickstart_results.py': {"(work_dir / 'contact_sheet.txt').read_text(encoding='utf-8')"},  # just written
    'rooms/write.py': {"(root / 'captions' / entry.coco_file).read_bytes()"},  # just written
    'verification/images.py': {'place.read_bytes()'},  # of a Member
    'visualization/report.py': {'Path(png).read_bytes()'},  # just drawn
    'weights/graph_files.py': {  # after their digests or check_torch_file
        'torch.export.load(file)',
        'torch.load(io.BytesIO(archive.read(record)), weights_only=True)',
        'zipfile.ZipFile(file)',
    },
    'weights/onnx_graph.py': {  # after open_file
        "runtime.InferenceSession(file, options, providers=['CPUExecutionProvider'], "
        "disabled_optimizers=['ConstantFolding'])",
    },
}


def opening_calls(source):
    """The calls in a program that open a file for reading by its path."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, values = ast.unparse(node.func), [*node.args, *(keyword.value for keyword in node.keywords)]
        modes = {value.value for value in values if isinstance(value, ast.Constant)} & {'w', 'wb', 'a', 'ab', 'a+', 'x'}
        is_ours = any(isinstance(value, ast.Constant) and value.value in MAX_BYTES for value in values)
        if OPENING & {name, name.rpartition('.')[2]} and not modes and not is_ours:
            yield ast.unparse(node)


def test_no_other_place_opens_files_by_their_path():
    package = Path(kovilt.__file__).parent
    found = {str(file.relative_to(package)): set(opening_calls(file.read_text())) for file in package.rglob('*.py')}
    del found['files.py'], found['drafts.py']
    assert {name: calls for name, calls in found.items() if calls} == ALLOWED


@pytest.mark.parametrize('call', ['open(path)', 'path.read_text()', "Image.open('a.png')", 'torch.load(x)', 'x.open()'])
def test_a_raw_call_would_be_found(call):
    assert list(opening_calls(f'value = f({call})')) == [call.replace('"', "'")]
