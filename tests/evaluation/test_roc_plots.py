"""Plots of results whose names are anybody's: text is drawn as text, and every figure's points are in view."""

import io
import warnings

import numpy as np
import pytest

from facekd.evaluation.roc_plots import plot_det, save_plots
from facekd.evaluation.verification import VerificationResult, verify_pairs

pytest.importorskip("matplotlib")
HOSTILE = "evil\x1b[31m\x07 $\\frac{1}{$ $x$ \u202e<b>"


def result(name: str, *, signal: float) -> VerificationResult:
    """A hundred pairs whose genuine halves share a part of `signal`."""
    rng = np.random.default_rng(0)
    issame = np.arange(100) % 2 == 0
    embeddings = rng.normal(size=(100, 2, 16))
    embeddings[issame] += signal * rng.normal(size=(50, 1, 16))
    return verify_pairs(embeddings.reshape(200, 16), issame, name=name)


def test_a_foreign_name_is_drawn_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: control characters reached the terminal in matplotlib's warning of a glyph that is missing."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    drawn: list[str] = []
    original = Figure.savefig

    def savefig(figure: Figure, *given: object, **options: object) -> None:
        drawn.extend(text.get_text() for text in figure.findobj(Text))
        original(figure, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", savefig)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_plots(io.BytesIO(), [result(HOSTILE, signal=1.0)], title=HOSTILE)
    shown = [text for text in drawn if "evil" in text]
    assert len(shown) >= 3  # the title, a legend, a heading
    for text in shown:
        assert text.startswith("evil\\x1b[31m\\x07 \\$")
        assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize("signal", [0.0, 0.3, 1.0])
def test_the_equal_error_rate_is_in_view(signal: float) -> None:
    """Seen: the DET curve was cut off at 40 %."""
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    plot_det(axes, [result("a", signal=signal)])
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    points = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert points
    for x, y in zip(points[0].get_xdata(), points[0].get_ydata(), strict=True):
        assert low <= x <= high and bottom <= y <= top
