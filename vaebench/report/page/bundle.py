"""The page's modules as one script, and the policy that lets nothing else run.

The modules under ``js`` are plain ES modules. In the page they are one: each after those that it
imports, without its ``import`` and ``export``. So a name at the top of a module must be unique.
"""

import base64
import hashlib
import re
from pathlib import Path

HERE = Path(__file__).parent
_IMPORT = re.compile(r'^import\s+\{[^}]*\}\s+from\s+"\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(async |)function|const|class)", re.MULTILINE)


def script(entry: str = "main.js") -> str:
    """The module ``entry`` with all that it imports."""
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        if name in parts:
            return
        text = (HERE / "js" / name).read_text(encoding="utf-8")
        parts[name] = ""  # two modules may not import each other
        for imported in _IMPORT.findall(text):
            add(imported)
        del parts[name]
        parts[name] = _EXPORT.sub("", _IMPORT.sub("", text))

    add(entry)
    return "\n".join(parts.values())


def asset(name: str) -> str:
    """The text of a file beside this one."""
    return (HERE / name).read_text(encoding="utf-8")


def policy(scripts: list[str], styles: list[str]) -> str:
    """A Content-Security-Policy: these scripts and styles, embedded images, and no request."""

    def sources(texts: list[str]) -> str:
        digests = (hashlib.sha256(text.encode()).digest() for text in texts)
        return " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests) or "'none'"

    return (
        f"default-src 'none'; script-src {sources(scripts)}; style-src {sources(styles)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
