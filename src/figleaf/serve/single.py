"""The page as one file: its modules as one script, its files inside it as text, and a policy that opens no address.

There is no bundler: the page's modules keep to two forms, `import { a, b } from "./x.js"` on one line and `export`
before a declaration, so that putting them into functions is enough.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from posixpath import dirname, join, normpath

_IMPORT = re.compile(r'^import \{ ([\w$, ]+) \} from "(\.{1,2}/[^"]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) )", re.MULTILINE)
_EXPORTED = re.compile(r"^export (?:async )?(?:function|class|const) ([\w$]+)", re.MULTILINE)
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="[^"]*">')
_STYLE = re.compile(r'<link rel="stylesheet" href="([^"]+)">\n')
_SCRIPT = re.compile(r'<script (?:defer|type="module") src="([^"]+)"></script>\n')


def single_page(index: str, texts: Mapping[str, str], files: Mapping[str, bytes]) -> str:
    """`index.html` with everything in it.

    `texts` are the style sheets, scripts and modules by their paths in the page's folder, `files` what the page asks
    for when it is in a folder: they stand in the page as base64 and nothing is asked for.

    Raises `ValueError` for sources that cannot stand in a page.
    """
    (style,) = _STYLE.findall(index)
    *engine, entry = _SCRIPT.findall(index)
    scripts = [*(texts[name] for name in engine), bundled(entry, texts)]
    if any(re.search(r"</script|<!--", text, re.IGNORECASE) for text in scripts):
        raise ValueError("a script that holds the end of one cannot stand in a page")
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"script-src {' '.join(map(_named, scripts))} 'wasm-unsafe-eval'; style-src {_named(texts[style])}"
    )
    page = _POLICY.sub(lambda _: f'<meta http-equiv="Content-Security-Policy" content="{policy}">', index, count=1)
    page = _STYLE.sub(lambda _: f"<style>{texts[style]}</style>\n", page)
    page = _SCRIPT.sub("", page)
    held = [
        f'<script type="application/octet-stream" id="file:{html.escape(name)}">{_base64(content)}</script>'
        for name, content in files.items()
    ]
    *plain, module = scripts
    run = [*(f"<script>{text}</script>" for text in plain), f'<script type="module">{module}</script>']
    return page.replace("</body>", "\n".join([*held, *run, "</body>"]), 1)


def bundled(entry: str, texts: Mapping[str, str]) -> str:
    """The modules that `entry` needs as one script, each in a function of its own, those that others need first.

    Raises `ValueError` for a module with a form that is not known here, and for modules that need each other.
    """
    done: dict[str, str] = {}
    _add(entry, texts, done, ())
    return '"use strict";\nconst modules = {};\n' + "".join(done.values())


def _add(name: str, texts: Mapping[str, str], done: dict[str, str], above: tuple[str, ...]) -> None:
    if name in done:
        return
    if name in above:
        raise ValueError(f"{name} needs itself, through {', '.join(above)}")
    text = texts[name]

    def taken(found: re.Match[str]) -> str:
        path = normpath(join(dirname(name), found[2]))
        _add(path, texts, done, (*above, name))
        return f'const {{ {found[1]} }} = modules["{path}"];'

    exported = _EXPORTED.findall(text)
    body = _EXPORT.sub("", _IMPORT.sub(taken, text))
    if strange := re.search(r"^(?:import|export)\b.*", body, re.MULTILINE):
        raise ValueError(f"{name}: {strange[0]!r} is a form that the single file cannot hold")
    done[name] = f'modules["{name}"] = (() => {{\n{body}return {{ {", ".join(exported)} }};\n}})();\n'


def _named(text: str) -> str:
    """A script or style sheet as a policy names it: by its hash."""
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
