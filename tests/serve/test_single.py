"""The page as one file: modules as one script that runs alike, and a policy that names every script by its hash."""

import base64
import hashlib
import re
import shutil
import subprocess

import pytest
from made_page import Site

from figleaf.serve.single import bundled, single_page

MODULES = {
    "app/main.js": 'import { twice } from "./number.js";\nimport { name } from "../lib/name.js";\n'
    "console.log(`${name} ${twice(21)}`);\n",
    "app/number.js": 'import { name } from "../lib/name.js";\nexport function twice(x) {\n  return 2 * x;\n}\n'
    "const own = name;\nexport const other = own;\n",
    "lib/name.js": "export const name = `a${own()}`;\nfunction own() {\n  return 1;\n}\nexport class Unused {}\n",
}


def test_the_script_does_what_the_modules_do() -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("needs Node.js")
    done = subprocess.run([node, "-e", bundled("app/main.js", MODULES)], capture_output=True, text=True, check=True)
    assert done.stdout == "a1 42\n"


@pytest.mark.parametrize(
    "line", ['import x from "./number.js";', 'import * as x from "./number.js";', "export default 1;", "export { a };"]
)
def test_other_forms_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="a form that the single file cannot hold"):
        bundled("app/main.js", MODULES | {"app/main.js": f"{line}\n"})


def test_modules_that_need_each_other_are_refused() -> None:
    circle = {"a.js": 'import { b } from "./b.js";\n', "b.js": 'import { a } from "./a.js";\n'}
    with pytest.raises(ValueError, match="needs itself"):
        bundled("a.js", circle)


def test_the_policy_of_the_single_file_names_its_scripts_and_opens_nothing(site: Site) -> None:
    text = (site.built.out / "single.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert set(rules) == {"default-src", "base-uri", "form-action", "script-src", "style-src"}
    scripts = re.findall(r'<script(?: type="module")?>(.*?)</script>', text, re.DOTALL)
    sheets = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert set(rules["script-src"].split()) == {*map(source, scripts), "'wasm-unsafe-eval'"}
    assert rules["style-src"].split() == list(map(source, sheets))
    assert re.search(r'<(?:script|link)[^>]*(?:src|href)="', text) is None


def test_a_script_that_would_end_the_page_is_refused() -> None:
    index = '<link rel="stylesheet" href="a.css">\n<script type="module" src="a.js"></script>\n<body></body>'
    with pytest.raises(ValueError, match="holds the end of one"):
        single_page(index, {"a.css": "", "a.js": "const a = '</script>';\n"}, {})


def source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
