"""EKD, pair by pair, and its running thresholds."""

from itertools import combinations
from math import exp
from typing import Any

import numpy as np
import pytest
import torch

from facekd.common.errors import UsageError

FARS = (0.5, 0.1, 0.001)


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def cosines(x: np.ndarray, labels: list[int], *, genuine: bool) -> dict[tuple[int, int], float]:
    pairs = combinations(range(len(x)), 2)
    return {(i, j): float(x[i] @ x[j]) for i, j in pairs if (labels[i] == labels[j]) == genuine}


def thresholds(impostors: dict[tuple[int, int], float]) -> list[float]:
    ranked = sorted(impostors.values(), reverse=True)
    return [ranked[int(len(ranked) * far)] for far in FARS]


def test_from_its_definition(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    labels = faces.labels.tolist()
    rows = faces.units()
    genuine_s, genuine_t = (cosines(x, labels, genuine=True) for x in rows)
    impostors_s, impostors_t = (cosines(x, labels, genuine=False) for x in rows)
    assert (len(genuine_s), len(impostors_s)) == (2, 13)
    limits_s, limits_t = thresholds(impostors_s), thresholds(impostors_t)  # the first batch's are taken whole

    def difference(of_student: float, of_teacher: float) -> float:
        rank_s = sum(sigmoid((of_student - limit) / 0.1) for limit in limits_s)
        rank_t = sum(sigmoid((of_teacher - limit) / 0.1) for limit in limits_t)
        return (rank_s - rank_t) ** 2

    term = make_term("ekd", fars=FARS, temperature=0.1, hardest=4)
    given = term(faces.batch)
    expected = np.mean([difference(genuine_s[pair], genuine_t[pair]) for pair in genuine_s])
    assert float(given["positive"]) == pytest.approx(expected, rel=1e-3)
    hardest = sorted(impostors_s, key=lambda pair: -impostors_s[pair])[:4]
    expected = np.mean([difference(impostors_s[pair], impostors_t[pair]) for pair in hardest])
    assert float(given["negative"]) == pytest.approx(expected, rel=1e-3)


def test_thresholds_are_a_running_mean_in_training_only(make_faces: Any, make_term: Any) -> None:
    term = make_term("ekd", fars=FARS, momentum=0.25)
    found = []
    for _ in range(2):
        faces = make_faces()
        term(faces.batch)
        found.append(thresholds(cosines(faces.units()[0], faces.labels.tolist(), genuine=False)))
    expected = [0.75 * first + 0.25 * second for first, second in zip(*found, strict=True)]
    assert term.student_thresholds.tolist() == pytest.approx(expected, abs=1e-5)
    kept = {name: value.clone() for name, value in term.state_dict().items()}
    assert kept.keys() == {"student_thresholds", "teacher_thresholds", "started"}
    term.eval()(make_faces().batch)
    assert all(torch.equal(value, kept[name]) for name, value in term.state_dict().items())


def test_only_the_student_learns(make_faces: Any, make_term: Any, learns_alone: Any) -> None:
    learns_alone(make_term("ekd", temperature=0.2), make_faces())


@pytest.mark.parametrize(("labels", "empty"), [((0, 1, 2), "positive"), ((1, 1, 1), "negative"), ((3,), "positive")])
def test_a_batch_without_such_pairs_costs_nothing(
    make_faces: Any, make_term: Any, labels: tuple[int, ...], empty: str
) -> None:
    faces = make_faces(labels)
    parts = make_term("ekd")(faces.batch)
    assert float(parts[empty].detach()) == 0
    torch.stack(list(parts.values())).sum().backward()
    assert bool(torch.isfinite(faces.student.grad).all())


def test_a_rate_that_is_none_is_refused(make_term: Any) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        make_term("ekd", fars=[10.0])
