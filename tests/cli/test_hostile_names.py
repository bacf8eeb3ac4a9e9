"""No control character of a card reaches the terminal, whichever words it stands in."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from facekd.cli import main
from facekd.cli.output import print_table, print_text

HOSTILE = "evil\x1b[31mRED\x1b]0;title\x1b\\\x07\u202e\x9b1m"
CONTROL = re.compile("[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u202e]")


def test_words_and_tables_show_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    print_text(f"{HOSTILE}\nsecond line")
    print_table(HOSTILE, [HOSTILE, "b"], [[HOSTILE, HOSTILE]], caption=HOSTILE)
    said = capsys.readouterr().out
    assert not CONTROL.search(said)
    assert said.startswith("evil\\x1b[31mRED") and "\nsecond line\n" in said


def test_the_verbs_print_foreign_words_by_no_other_way() -> None:
    import facekd.cli

    folder = Path(facekd.cli.__file__).parent
    bare = [
        f"{file.name}: {line.strip()}"
        for file in sorted(folder.glob("*.py"))
        if file.name not in ("output.py", "__init__.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s+print\((?!\))", line) and "file=sys.stderr" not in line
    ]
    assert bare == []


def test_info_of_a_hostile_card(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = tmp_path / "hostile"
    shutil.copytree(bundle, hostile)
    card = json.loads((hostile / "card.json").read_text(encoding="utf-8"))
    (hostile / "card.json").write_text(json.dumps({**card, "name": HOSTILE, "notes": HOSTILE}), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["facekd", "info", str(hostile)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    said = capsys.readouterr()
    assert "evil\\x1b[31mRED" in said.out
    assert not CONTROL.search(said.out + said.err)


def test_the_readme_of_a_hostile_card_holds_no_markup(tmp_path: Path, bundle: Path) -> None:
    from facekd.models.readme import write_readme
    from facekd.schemas.card import read_card

    hostile = "evil\x1b[31m<script>alert(1)</script>\n# heading\n| a | b |"
    write_readme(tmp_path / "README.md", read_card(bundle).model_copy(update={"name": hostile, "notes": hostile}))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not CONTROL.search(text)
    assert "<script" not in text.replace("\\<script", "")
    assert "\n# heading" not in text and "\n| a | b |" not in text
