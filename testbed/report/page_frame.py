"""The frame of every page: style, scripts and data inside the one file, and a policy that lets it load nothing else."""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs


def render_frame(template: str, *, styles: list[str], scripts: list[str], data: dict[str, Any], **values: Any) -> str:
    """A page as HTML.

    Args:
        template: a file beside this one that extends frame.html.j2.
        styles, scripts: names of files beside this one; plotly.js comes before the scripts.
        data: what the scripts draw, by the id of the element that holds it as JSON.
        values: what the template shows.
    """
    sources = [get_plotlyjs(), *(_asset(name) for name in scripts)]
    page: str = (
        _environment()
        .get_template(template)
        .render(
            style=Markup("".join(_asset(name) for name in styles)),
            documents={key: Markup(_as_script_data(document)) for key, document in data.items()},
            scripts=[Markup(source) for source in sources],
            script_hashes=[_csp_hash(source) for source in sources],
            **values,
        )
    )
    return page


def tile_spans(tiles: int, most_per_row: int) -> list[int]:
    """How many of 60 columns each tile takes, so that rows are filled and as even as can be."""
    rows = -(-tiles // most_per_row)
    per_row = [tiles // rows + (row < tiles % rows) for row in range(rows)] if tiles else []
    return [60 // count for count in per_row for _ in range(count)]


def _as_script_data(document: Any) -> str:
    """JSON that no HTML parser can take for the end of its script element or the start of a comment."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _csp_hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _asset(name: str) -> str:
    return files("testbed.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("testbed.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["tile_spans"] = tile_spans
    return environment
