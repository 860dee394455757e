"""What `abstention` takes for foreign: parts of photographs, drawn documents, noise, single colors, other questions.

Rooms images in gray, blurred or upside down are foreign, too, and nearer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from kovilt.errors import KoviltError

MADE = 100  # images of each kind that is made here
_SIZES = ((320, 240), (240, 320), (384, 216), (256, 256))
_SUFFIXES = '.jpg', '.jpeg', '.png'
FOREIGN_QUESTIONS = (
    '신호등은 무슨 색인가요?', '버스 번호가 몇 번이에요?', '이 사람은 무엇을 하고 있나요?', '하늘에 구름이 있나요?',
    '간판에 뭐라고 적혀 있나요?', '자전거를 타는 사람은 몇 명인가요?', '이 음식의 이름은 무엇인가요?',
    '어느 나라의 국기인가요?', '경기의 점수는 몇 대 몇인가요?', '비행기는 어느 방향으로 날고 있나요?',
    '이 동물은 무엇을 먹고 있습니까?', '해변에 파라솔이 있어요?', '영수증의 합계 금액은 얼마인가요?',
    '이 약은 하루에 몇 번 먹어야 하나요?', '횡단보도 옆에 무엇이 보이나요?', '지하철 노선은 몇 호선인가요?',
    '환자의 체온은 몇 도입니까?', '그래프에서 가장 높은 값은 무엇인가요?', '눈이 쌓인 산의 높이는 얼마나 되나요?',
    '가수는 무슨 악기를 연주하고 있나요?', '아이가 웃고 있나요?', '트럭에 실린 짐은 무엇인가요?',
    '주차장에 빈자리가 있습니까?', '택배 상자의 송장 번호를 읽어 주세요', '꽃잎은 몇 장인가요?',
    '강물이 흐르는 방향은 어디인가요?', '이 건물은 언제 지어졌나요?', '손에 들고 있는 휴대전화의 기종은 무엇인가요?',
    '축구 선수의 등번호는 몇 번입니까?', '달력에서 오늘은 무슨 요일인가요?',
    '식당 메뉴판에서 가장 비싼 것은 무엇인가요?', '우체통은 어디에 있나요?', '기차가 몇 시에 출발해요?',
    '피자 위에 올라간 토핑은 무엇인가요?', '말을 타고 있는 사람이 모자를 썼나요?', '유통 기한이 언제까지예요?',
    '운전자가 안전벨트를 매고 있나요?', '서핑보드는 무슨 색이야?', '계단은 모두 몇 칸입니까?',
    '이 조각을 만든 작가는 누구인가요?',
)  # fmt: skip


def foreign_images(folders: Sequence[Path], crops: int, seed: int) -> dict[str, list[tuple[Image.Image, str]]]:
    """By kind the images and the source of each: images of one source are not independent.

    Args:
        folders: with photographs, of each of which `crops` parts are taken, at random places and in random sizes.

    Raises:
        KoviltError: no photographs in a folder.
    """
    rng = np.random.default_rng(seed)
    parts: list[tuple[Image.Image, str]] = []
    for folder in folders:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
        if not files:
            raise KoviltError(f'{folder}: no photographs in it (JPEG or PNG)')
        for file in files:
            whole = Image.open(file).convert('RGB')
            parts += [(_part(whole, rng), str(file)) for _ in range(crops)]
    made = {
        'documents': _document,
        'noise': lambda rng, size: Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)),
        'single colors': lambda rng, size: Image.new('RGB', size, tuple(rng.integers(0, 256, 3).tolist())),
    }
    found = {'photographs': parts}
    for kind, make in made.items():
        found[kind] = [(make(rng, _SIZES[number % len(_SIZES)]), f'{kind} {number}') for number in range(MADE)]
    return found


def altered_images(files: Sequence[Path]) -> dict[str, list[tuple[Image.Image, str]]]:
    """Images as training has not seen them, and the file of each, by kind."""
    ways = {
        'Rooms in gray': lambda image: ImageOps.grayscale(image).convert('RGB'),
        'Rooms blurred': lambda image: image.filter(ImageFilter.GaussianBlur(4)),
        'Rooms upside down': ImageOps.flip,
    }
    images = [(Image.open(file).convert('RGB'), str(file)) for file in files]
    return {kind: [(alter(image), file) for image, file in images] for kind, alter in ways.items()}


def _part(whole: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A part of one of `_SIZES`' shapes, at a random place, half to all of the largest that fits."""
    width, height = _SIZES[rng.integers(len(_SIZES))]
    scale = min(whole.width / width, whole.height / height) * rng.uniform(0.5, 1)
    width, height = max(8, int(width * scale)), max(8, int(height * scale))
    left, top = int(rng.integers(whole.width - width + 1)), int(rng.integers(whole.height - height + 1))
    return whole.crop((left, top, left + width, top + height))


def _document(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Lines of dark letters on light paper."""
    page = Image.new('RGB', size, tuple(rng.integers(225, 256, 3).tolist()))
    draw, letters = ImageDraw.Draw(page), np.array(list('abcdefghijklmnopqrstuvwxyz    '))
    height = int(rng.integers(10, 19))
    ink, font = tuple(rng.integers(0, 80, 3).tolist()), ImageFont.load_default(height)
    for y in range(height, size[1] - 2 * height, int(1.5 * height)):
        words = ''.join(rng.choice(letters, int(1.6 * size[0] / height)))
        draw.text((height, y), words[: int(len(words) * rng.uniform(0.6, 1))], fill=ink, font=font)
    return page
