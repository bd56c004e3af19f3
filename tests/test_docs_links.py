"""Links in the papers lead somewhere, and the README stays short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAPERS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
README_LINES = 130
FENCED, CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL), re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def links(text: str) -> list[str]:
    """The targets of the links and pictures of a page, without those that only stand in code."""
    return LINK.findall(CODE.sub("code", FENCED.sub("", text)))


def anchors(text: str) -> set[str]:
    """What a link into a page may name: its headings as GitHub writes them."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead(page: Path) -> list[str]:
    """The relative links of `page` to a file or a heading that is not there."""
    found = []
    for target in links(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path.read_text())):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    assert dead(page) == []


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "there.md").write_text("# What it's for, and `why`\n```\n# no heading\n```\n")
    (tmp_path / "page.md").write_text(
        "[a](there.md) [b](there.md#what-its-for-and-why) [c](https://x.org/gone.md) `[d](code.md)` [e](#top)\n# Top\n"
        "[f](gone.md) ![g](gone.png) [h](there.md#no-heading) [i](#bottom)\n"
    )
    assert dead(tmp_path / "page.md") == ["gone.md", "gone.png", "there.md#no-heading", "#bottom"]


def test_every_page_of_docs_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = [(page.parent / target.partition("#")[0]).resolve() for target in links(page.read_text())]
        waiting += [path for path in targets if path.suffix == ".md" and path.exists() and path not in reached]
    assert [page for page in PAPERS if page not in reached] == []


def test_the_readme_is_short_enough_to_be_read():
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES
