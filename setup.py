"""Packaging of kovilt. Requirements live in requirements/*.txt, the version in kovilt/version.py."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    lines = (
        line.split('#')[0].strip() for line in (ROOT / 'requirements' / f'{name}.txt').read_text('utf-8').split('\n')
    )
    return [line for line in lines if line]


def version() -> str:
    scope: dict[str, str] = {}
    exec((ROOT / 'kovilt' / 'version.py').read_text('utf-8'), scope)  # noqa: S102  # importing it would need torch
    return scope['__version__']


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
    python_requires='>=3.11',
    install_requires=requirements('runtime'),
    extras_require={'optional': requirements('optional'), 'tests': requirements('tests')},
    zip_safe=False,
)
