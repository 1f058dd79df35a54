"""The Markdown pages: links, anchors, commands and paths that they name exist, and the README stays short."""

import re
from pathlib import Path

import pytest

from medisync.cli.main import main

ROOT = Path(__file__).parent.parent
FOLDERS = ("dataset", "models", "artifacts", "logs", "deploy")
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks").rglob("*.md"),
        *(ROOT / folder / "README.md" for folder in FOLDERS),
    ]
)
"""Model cards are left out: they belong to their run and name files as they were then."""

README_BYTES = 8192
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?:medisync|tests|docs|benchmarks|deploy|\.ci)(?:/[\w.-]+)+/?")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The text of a page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def inline_code(page: Path) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def code(page: Path) -> list[str]:
    """Every line of a code block, and every piece of inline code."""
    blocks = "\n".join(FENCE.findall(page.read_text(encoding="utf-8")))
    return [*blocks.splitlines(), *inline_code(page)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(line: str) -> list[tuple[list[str], list[str]]]:
    """The words and the options of each `medisync ...` in a line of code."""
    found = []
    for arguments in re.findall(r"(?<![\w./-])medisync ([^#;|>]+)", line):
        words = arguments.split()
        count = next(
            (place for place, word in enumerate(words) if not re.fullmatch("[a-z]+(-[a-z]+)*", word)), len(words)
        )
        found.append((words[:count], [word for word in words if re.fullmatch("--?[a-z][a-z-]*", word)]))
    return found


def test_words_and_options_of_commands_are_found() -> None:
    line = "medisync federation run server.toml -p ROUNDS 3 --resume run-003; medisync serve  # see medisync/cli/"
    assert commands(line) == [(["federation", "run"], ["-p", "--resume"]), (["serve"], [])]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    local = [link for link in LINK.findall(prose(page)) if "://" not in link]
    for link in local:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_in_code_exist(page: Path) -> None:
    assert [path for path in inline_code(page) if PATH.fullmatch(path) and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_options_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, options in (command for line in code(page) for command in commands(line)):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        assert ended.value.code == 0, words
        offered = set(re.findall(r"--?[a-z][a-z-]*", capsys.readouterr().out))
        assert set(options) <= offered, words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {target for line in code(page) for target in re.findall(r"^make ([a-z-]+)", line)}
    assert named <= targets
