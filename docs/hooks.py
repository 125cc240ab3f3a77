"""MkDocs hooks: files outside docs/ that pages link to, and notebooks, become part of the site.

The pages link to them as `../outputs/...` and `notebooks/....ipynb`, so that the links also work
when browsing the repository. On the site, these files are next to the pages, and each notebook is a
page.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebook_pages import to_markdown

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\[([^\[\]]*)\]\(\.\./([^)#\s]+)\)")
NOTEBOOK_LINK = re.compile(r"(\]\([\w/.-]+)\.ipynb(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file of the repository that a page links to, and a page for each notebook."""
    for path in Path(config.docs_dir).glob("*.md"):
        for _, target in LINK.findall(path.read_text(encoding="utf-8")):
            if (ROOT / target).is_file() and files.get_file_from_path(target) is None:
                files.append(File(target, str(ROOT), config.site_dir, config.use_directory_urls))
    for path in Path(config.docs_dir).glob("notebooks/*.ipynb"):
        name = f"notebooks/{path.stem}.md"
        files.append(File.generated(config, name, content=to_markdown(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs passes it by name
    """Point links to files of the repository to their copies, and to notebooks to their pages.

    Folders have no page to link to.
    """

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        if (ROOT / target).is_dir():
            return text
        return f"[{text}]({target})" if (ROOT / target).is_file() else found[0]

    if page.file.generated_by is None:  # links from notebooks/ to ../ stay inside docs/
        markdown = LINK.sub(link, markdown)
    return NOTEBOOK_LINK.sub(r"\1.md", markdown)
