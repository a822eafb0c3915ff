"""Reading YAML that people write: plain values only, and nothing dropped in silence."""

from pathlib import Path
from typing import Any

import yaml

from figleaf.errors import FigleafError


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Plain values only, and no key twice, of which YAML would keep the last in silence."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        _refuse_repeated_keys(node)
        content = None if node is None else loader.construct_document(node)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, FigleafError) as error:
        raise FigleafError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise FigleafError(f"{path}: expected keys with values, found {type(content).__name__}")
    return content


def _refuse_repeated_keys(root: Any) -> None:
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:  # an anchor used twice
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, value in node.value:
                if str(key.value) in names:
                    raise FigleafError(f"line {key.start_mark.line + 1}: the key {key.value} is given twice")
                names.add(str(key.value))
                pending.append(value)
