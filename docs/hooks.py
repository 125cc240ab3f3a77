"""MkDocs hooks: files outside docs/ that pages link to become part of the site.

The pages link to them as `../outputs/...`, so that the links also work when
browsing the repository. On the site, these files are next to the pages.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\[([^\[\]]*)\]\(\.\./([^)#\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file of the repository that a page links to."""
    for path in Path(config.docs_dir).glob("*.md"):
        for _, target in LINK.findall(path.read_text(encoding="utf-8")):
            if (ROOT / target).is_file() and files.get_file_from_path(target) is None:
                files.append(File(target, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Point links to files of the repository to their copies; folders have no page to link to."""

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        if (ROOT / target).is_dir():
            return text
        return f"[{text}]({target})" if (ROOT / target).is_file() else found[0]

    return LINK.sub(link, markdown)
