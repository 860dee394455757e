"""Packaging of kovilt. Requirements live in requirements/*.txt, the version in kovilt/version.py."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What OpenMMLab's programs, mmengine.hub and `kovilt train NAME` look for in the folder .mim of an installed package.
MIM = ('configs', 'tools', 'model-index.yml')


class build_py_with_mim(build_py):
    """Adds the folder .mim to the package: copies in a wheel, links in an editable installation."""

    def run(self) -> None:
        mim = Path(ROOT if self.editable_mode else self.build_lib, 'kovilt', '.mim')
        if self.editable_mode:
            shutil.rmtree(mim, ignore_errors=True)
            mim.mkdir()
            with suppress(OSError):  # a system without links finds the configs beside the package
                for name in MIM:
                    (mim / name).symlink_to(os.path.relpath(ROOT / name, mim))
            return super().run()
        shutil.rmtree(mim.parent, ignore_errors=True)  # what an earlier build has left there, deleted modules too
        super().run()
        for name in MIM:
            source, target = ROOT / name, mim / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(source, target)


def requirements(name: str) -> list[str]:
    lines = (
        line.split('#')[0].strip() for line in (ROOT / 'requirements' / f'{name}.txt').read_text('utf-8').split('\n')
    )
    return [line for line in lines if line]


def version() -> str:
    scope: dict[str, str] = {}
    exec((ROOT / 'kovilt' / 'version.py').read_text('utf-8'), scope)  # noqa: S102  # importing it would need torch
    return scope['__version__']


EXTRAS = sorted(file.stem for file in (ROOT / 'requirements').glob('*.txt') if file.stem != 'runtime')
setup(
    name='kovilt',
    version=version(),
    description='Korean visual question answering with Ko-ViLT, a single-stream transformer, on MMEngine',
    long_description=(ROOT / 'README.md').read_text('utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=['korean', 'visual question answering', 'vision and language', 'mmengine'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Natural Language :: Korean',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['kovilt', 'kovilt.*']),
    package_data={'kovilt': ['py.typed', 'assets/**', 'visualization/*.j2', 'weights/*.j2']},
    entry_points={'console_scripts': ['kovilt = kovilt.cli.main:main']},
    cmdclass={'build_py': build_py_with_mim},
    python_requires='>=3.11',
    install_requires=requirements('runtime'),
    extras_require={extra: requirements(extra) for extra in EXTRAS},
    zip_safe=False,
)
