"""Pages that need no other file, ask for nothing and run no script: templates, all text escaped, pictures inside."""

import base64
import io
from typing import Any

from PIL import Image


def render(template: str, **values: Any) -> str:
    """The page that `template`, a file of this room, makes of `values`; text in them is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("figleaf.explain", ".")
    return (
        Environment(autoescape=True, loader=loader, undefined=StrictUndefined).get_template(template).render(**values)
    )


def as_data(image: Image.Image, longest: int | None = None) -> str:
    """The picture as a data: address, its longest side at most `longest` pixels."""
    copied = image.convert("RGB")
    if longest is not None:
        copied.thumbnail((longest, longest))
    buffer = io.BytesIO()
    copied.save(buffer, format="WEBP", quality=88, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
