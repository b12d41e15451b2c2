"""Give a copy of the repository its address, for a release: project URLs, and links of the README that work elsewhere.

Usage: addressed.py FOLDER ADDRESS TAG. ADDRESS is where the repository is on the web, without a slash at its end; files
of the tag are then at ADDRESS/blob/TAG/PATH and ADDRESS/raw/TAG/PATH, as on GitHub and Forgejo.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_FENCED = re.compile(r"^( *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#", re.IGNORECASE)


def main() -> None:
    """Change README.md and pyproject.toml of the copy."""
    folder, address, tag = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    readme, project = folder / "README.md", folder / "pyproject.toml"
    readme.write_text(_absolute(readme.read_text(), address, tag))
    project.write_text(f"{project.read_text()}\n{_urls(address, tag)}")


def _absolute(text: str, address: str, tag: str) -> str:
    """Return a page of Markdown whose links to files of the repository begin with its address."""

    def linked(found: re.Match[str]) -> str:
        mark, said, path = found.groups()
        if _ELSEWHERE.match(path):
            return found[0]
        return f"{mark}[{said}]({address}/{'raw' if mark else 'blob'}/{tag}/{path})"

    # Every second part is a block of code.
    parts = _FENCED.split(text)
    return "".join(part if number % 2 else _LINK.sub(linked, part) for number, part in enumerate(parts))


def _urls(address: str, tag: str) -> str:
    """Return the table of project URLs, by the labels that package indexes know."""
    urls = {
        "Homepage": address,
        "Documentation": f"{address}/tree/{tag}/docs",
        "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }
    return "\n".join(["[project.urls]", *(f'{label} = "{url}"' for label, url in urls.items())]) + "\n"


if __name__ == "__main__":
    main()
