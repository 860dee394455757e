"""The model card, README.md of a model folder: what the model is, how it was trained and how to use it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_CALIBRATION = re.compile(r'^## Calibration\n.*?(?=^## |\Z)', re.M | re.S)  # the section of a card


def model_card(name: str, config: Mapping[str, Any], info: Mapping[str, Any], *, num_parameters: int) -> str:
    """The card in Markdown, from the config.json and kovilt.json of the model folder `name` (template card.md.j2)."""
    from kovilt.terminal import printable

    return render(
        'card.md.j2',
        name=printable(name),
        name_literal=repr(name),
        config=config,
        info=info,
        graph=info.get('graph', {}),
        calibration=info.get('calibration'),
        transforms=[_as_call(step) for step in info['image_pipeline']],
        num_parameters=num_parameters,
    )


def with_calibration(card: str, calibration: Mapping[str, Any]) -> str:
    """A card with the section on a new calibration in place of an older one, before the section on its use."""
    without = _CALIBRATION.sub('', card)
    start = without.find('## Use\n')
    start = len(without) if start < 0 else start
    return f'{without[:start]}{render("calibration.md.j2", calibration=calibration)}{without[start:]}'


def render(template: str, **values: Any) -> str:
    """The text of a template beside this file, which is no HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from kovilt.terminal import printable

    loader = PackageLoader('kovilt.weights', '.')
    environment = Environment(  # noqa: S701  # no HTML
        loader=loader, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters['printable'] = printable
    return environment.get_template(template).render(values)


def _as_call(config: Mapping[str, Any]) -> str:
    arguments = ', '.join(f'{key}={value!r}' for key, value in config.items() if key != 'type')
    return f'{config["type"]}({arguments})'
