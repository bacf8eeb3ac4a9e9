"""The verb that was renamed: one line that names the new one, and nothing runs."""

import sys

import pytest

from facekd.cli import main


@pytest.mark.parametrize(
    "words", [[], ["quickstart-methods", "--out", "here"], ["--help"], ["grid", "--plan", "--json"]]
)
def test_compare_names_sweep(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setattr("facekd.sweep.sweep.run_sweep", lambda *given, **named: pytest.fail("ran"))
    monkeypatch.setattr(sys, "argv", ["facekd", "compare", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    told = capfd.readouterr()
    assert stop.value.code == 2
    assert told.out == "" and told.err.count("\n") == 1 and "facekd sweep" in told.err
