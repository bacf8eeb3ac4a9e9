"""The docs: the site builds in strict mode, every relative link leads somewhere, every command in them exists."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "android_demo").glob("*.md")])
Commands = dict[tuple[str, ...], set[str]]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings]
    return {re.sub(r"\s", "-", heading) for heading in plain}


def command_lines(text: str) -> Iterator[str]:
    """Whole commands of facekd: after a prompt, alone on an indented line, or in backticks."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in re.findall(r"^(?:\$ |    )(.+)$", joined, re.M):
        for part in re.split(r"&&|\|\s|;", re.sub(r"\s#.*", "", line)):
            words = re.sub(r"^(?:\w+=\S+ )+", "", part.strip())
            if re.match(r"facekd \S|python3? -m (facekd|tests)[\w.]* ?", words):
                yield words
    yield from re.findall(r"`((?:facekd |python3? -m (?:facekd|tests)\.)[^`\n]+)`", text)


def problem(line: str, commands: Commands) -> str | None:
    """What of a command does not exist."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    options = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
    if words[0] != "facekd":
        spec = importlib.util.find_spec(words[2]) if words[2].startswith("facekd") else None
        file = ROOT / words[2].replace(".", "/") / "__main__.py" if spec is None else Path(str(spec.origin))
        if not file.is_file():
            return f"no module {words[2]}"
        known = {"--help", *re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", file.read_text(encoding="utf-8"))}
    else:
        verb: tuple[str, ...] = ()
        while len(verb) + 1 < len(words) and (*verb, words[len(verb) + 1]) in commands:
            verb = (*verb, words[len(verb) + 1])
        if not verb and not words[1].startswith("-") and words[1] != "VERB":
            return f"no verb {words[1]}"
        known = commands[verb] | commands[()]
    return f"no option {', '.join(sorted(options - known))}" if options - known else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if (
            not file.exists()
            or not file.is_relative_to(ROOT)
            or (anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")))
        ):
            wrong.append(target)
    assert wrong == []


def test_every_command_exists(commands: Commands) -> None:
    seen = [(page, line) for page in PAGES for line in command_lines(page.read_text(encoding="utf-8"))]
    wrong = [f"{page.relative_to(ROOT)}: {line}: {found}" for page, line in seen if (found := problem(line, commands))]
    assert wrong == []
    assert len(seen) > 60


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("facekd trian x.yaml", "no verb trian"),
        ("facekd train x.yaml --outt y", "no option --outt"),
        ("facekd data pack a b --overwrite", None),
        ("python -m facekd.benchmarks.nothing", "no module facekd.benchmarks.nothing"),
        ("python -m facekd.benchmarks.studies.training x --thread 1", "no option --thread"),
        ("python -m tests.faults --suites kills", None),
    ],
)
def test_a_wrong_command_is_found(line: str, found: str | None, commands: Commands) -> None:
    assert problem(line, commands) == found


@pytest.mark.slow
def test_the_site_builds_in_strict_mode(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert (tmp_path / "site" / "index.html").is_file()
    for page, name in (("export", "facekd.export.parity"), ("runtimes", "facekd.runtimes.base.Session.run")):
        text = (tmp_path / "site" / "api" / page / "index.html").read_text(encoding="utf-8")
        assert f'id="{name}"' in text
