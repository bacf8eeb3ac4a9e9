"""GKD, class by class, and its relation to KD."""

from math import log
from typing import Any

import numpy as np
import pytest
import torch

from facekd.distillation.losses.gkd import primary_group


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


def group_of(probabilities: np.ndarray, label: int, rate: float) -> list[int]:
    ranked = sorted(range(len(probabilities)), key=lambda c: -probabilities[c])
    group, total = [], 0.0
    for c in ranked:
        if total >= rate:
            break
        group.append(c)
        total += probabilities[c]
    return group if label in group else [*group, label]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * log(a / b) for a, b in zip(p, q, strict=True))


def test_from_its_definition(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    primary, binary, sizes = [], [], []
    for z_s, z_t, label in zip(*faces.logits(), faces.labels.tolist(), strict=True):
        p_s, p_t = softmax(z_s / 4), softmax(z_t / 4)
        group = group_of(p_t, label, rate=0.6)
        sizes.append(len(group))
        inside_s, inside_t = sum(p_s[group]), sum(p_t[group])
        primary.append(divergence([p_t[c] / inside_t for c in group], [p_s[c] / inside_s for c in group]))
        binary.append(divergence([inside_t, 1 - inside_t], [inside_s, 1 - inside_s]))
    assert 1 < np.mean(sizes) < 5  # the split is one
    term = make_term("gkd", rate=0.6)
    given = term(faces.batch)
    assert float(given["primary"]) == pytest.approx(16 * np.mean(primary), rel=1e-4)
    assert float(given["binary"]) == pytest.approx(16 * np.mean(binary), rel=1e-4)
    assert term.diagnostics()["gkd.primary_classes"] == pytest.approx(np.mean(sizes))


def test_with_the_secondary_part_it_would_be_kd(make_faces: Any, make_term: Any) -> None:
    """KL = binary + p_T(inside) x primary + p_T(outside) x secondary, image by image: the paper's decomposition."""
    faces = make_faces((2,))
    (z_s,), (z_t,) = faces.logits()
    p_s, p_t = softmax(z_s / 4), softmax(z_t / 4)
    inside = group_of(p_t, 2, rate=0.6)
    outside = [c for c in range(5) if c not in inside]
    in_t, in_s = sum(p_t[inside]), sum(p_s[inside])
    secondary = divergence([p_t[c] / (1 - in_t) for c in outside], [p_s[c] / (1 - in_s) for c in outside])
    parts = make_term("gkd", rate=0.6)(faces.batch)
    whole = float(parts["binary"]) + in_t * float(parts["primary"]) + 16 * (1 - in_t) * secondary
    assert whole == pytest.approx(float(make_term("kd")(faces.batch)["divergence"]), rel=1e-4)


def test_the_true_class_is_always_primary() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0, -9.0]])
    assert primary_group(logits, torch.tensor([3]), rate=0.5).tolist() == [[True, False, False, True]]


def test_a_group_of_all_classes_stays_finite(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    parts = make_term("gkd", rate=0.999999)(faces.batch)
    torch.stack(list(parts.values())).sum().backward()
    assert bool(torch.isfinite(faces.student.grad).all())


def test_only_the_student_learns(make_faces: Any, make_term: Any, learns_alone: Any) -> None:
    learns_alone(make_term("gkd", rate=0.6), make_faces())
