"""URFM against its definition: index function, facial positions, local features and losses."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.data.alignment import TEMPLATE_112
from facekd.distillation.losses.base import DistillationBatch, Shapes
from facekd.distillation.losses.facial_position import CentrePlaces, FacialPositionalEncoding, piecewise_index
from facekd.distillation.losses.local_features import effective_rank, standardise
from facekd.distillation.losses.urfm import UrfmLoss, UrfmSettings

SHAPES = Shapes(
    student_channels=12,
    student_grid=(5, 5),
    student_embedding=16,
    teacher_width=10,
    teacher_grid=(7, 7),
    teacher_embedding=16,
)


def build(**settings: object) -> UrfmLoss:
    return UrfmLoss(UrfmSettings.model_validate({"local_centres": 6, "width": 32, "heads": 4, **settings}), SHAPES)


def batch(batch: int = 5, prompts: int = 2) -> DistillationBatch:
    return DistillationBatch(
        student_tokens=torch.randn(batch, 25, 12, requires_grad=True),
        student_embedding=torch.randn(batch, 16),
        teacher_tokens=torch.randn(batch, 49, 10, requires_grad=True),
        extra_tokens=torch.randn(batch, prompts, 10, requires_grad=True) if prompts else None,
        teacher_embedding=torch.randn(batch, 16),
        labels=torch.zeros(batch, dtype=torch.int64),
    )


@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(1.9, 3.8, 15.2), (4.0, 8.0, 16.0), (2.0, 4.0, 16.0)])
def test_index_function_is_irpe_definition(alpha: float, beta: float, gamma: float) -> None:
    values = np.linspace(-40, 40, 1601)

    def definition(x: float) -> int:
        if abs(x) <= alpha:
            return round(x)
        far = round(alpha + math.log(abs(x) / alpha) / math.log(gamma / alpha) * (beta - alpha))
        return int(math.copysign(1, x)) * int(min(beta, far))

    given = piecewise_index(torch.from_numpy(values), alpha=alpha, beta=beta, gamma=gamma)
    assert given.tolist() == [definition(x) for x in values]


@pytest.mark.parametrize("grid", [(7, 7), (14, 14), (4, 6)])
def test_relative_position_from_its_definition(grid: tuple[int, int]) -> None:
    """D = |p - centre| + |r_p - r_centre| scaled to the same range, looked up pixel by pixel."""
    encoding = FacialPositionalEncoding(width=3, position="relative", face_weight=1.0)
    with torch.no_grad():
        encoding.buckets.weight.copy_(torch.arange(10).float().unsqueeze(1).expand(-1, 3))
    given = encoding(torch.randn(2, grid[0] * grid[1] + 2, 5), grid, prompts=2)[0, :, 0].tolist()

    landmarks = TEMPLATE_112 / 16
    centre = np.array([3.5, 3.5])
    euclid, relative = [], []
    for row in range(grid[0]):
        for column in range(grid[1]):
            point = np.array([(column + 0.5) * 7 / grid[1], (row + 0.5) * 7 / grid[0]])
            euclid.append(np.linalg.norm(point - centre))
            r = [np.linalg.norm(point - mark) - np.linalg.norm(centre - mark) for mark in landmarks]
            relative.append(np.linalg.norm(r))
    scaled = np.array(relative) / max(relative) * max(euclid)
    distance = torch.tensor(np.array(euclid) + scaled)
    expected = piecewise_index(distance, alpha=4.0, beta=8.0, gamma=16.0).tolist()
    assert given[:-2] == expected
    assert given[-2:] == [9, 9]  # prompts stand nowhere: one bucket of their own


def test_saliency_position_depends_on_the_sample_and_not_on_its_scale() -> None:
    encoding = FacialPositionalEncoding(width=4, position="saliency", face_weight=1.0)
    tokens = torch.rand(3, 49, 8) * torch.rand(3, 49, 1) * 10
    given = encoding(tokens, (7, 7), prompts=0)
    assert given.shape == (3, 49, 4)
    assert not torch.equal(given[0], given[1])
    assert torch.equal(given, encoding(tokens * 7, (7, 7), prompts=0))  # min-max normalised norms


def test_plain_position_ignores_the_face() -> None:
    encoding = FacialPositionalEncoding(width=4, position="none", face_weight=1.0)
    one = encoding(torch.randn(1, 49, 8), (7, 7), prompts=0)[0].view(7, 7, 4)
    assert torch.equal(one, one.flip(0))
    assert torch.equal(one, one.transpose(0, 1))


@pytest.mark.parametrize("position", ["none", "saliency", "relative"])
@pytest.mark.parametrize("centres", [1, 6, 16])
def test_output_count_is_the_local_centres_whatever_the_input_count(position: str, centres: int) -> None:
    term = build(local_centres=centres, position=position)
    for prompts in (0, 1, 20):
        local = term.local_features(torch.randn(2, 49 + prompts, 10), branch="teacher", prompts=prompts)
        assert local.shape == (2, centres, 32)
    assert term.local_features(torch.randn(2, 25, 12), branch="student").shape == (2, centres, 32)


def test_local_features_from_plain_attention() -> None:
    """One head written out: softmax(c (W_k f + b)^T / sqrt(d)) W_v f."""
    term = build(heads=1)
    tokens = torch.randn(2, 25, 12)
    pixels = term.map_student.project(tokens)
    keys = pixels @ term.map_student.key.weight.T + term.position(tokens, (5, 5), 0)
    scores = torch.stack([term.centres @ sample.T / math.sqrt(32) for sample in keys])
    expected = scores.softmax(-1) @ (pixels @ term.map_student.value.weight.T)
    torch.testing.assert_close(term.local_features(tokens, branch="student"), expected)


@pytest.mark.parametrize("grid", [(7, 7), (14, 14), (4, 6)])
def test_places_prefer_near_pixels_as_a_gaussian(grid: tuple[int, int]) -> None:
    """exp of the bias is the normal density's shape in the distance of middles, in sevenths of the crop."""
    given = CentrePlaces(centres=9, heads=2, spread=0.8)(grid, prompts=3).exp().detach()
    assert given.shape == (2, 9, grid[0] * grid[1] + 3)
    for centre in range(9):
        place = np.array([centre % 3 + 0.5, centre // 3 + 0.5]) * 7 / 3
        for pixel in range(grid[0] * grid[1]):
            at = np.array([(pixel % grid[1] + 0.5) * 7 / grid[1], (pixel // grid[1] + 0.5) * 7 / grid[0]])
            expected = math.exp(-float(((place - at) ** 2).sum()) / (2 * 0.8**2))
            assert float(given[0, centre, pixel]) == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert given[:, :, -3:].flatten().tolist() == pytest.approx([math.exp(-2)] * 54)  # two spreads away


def test_attention_to_far_pixels_is_never_denormal() -> None:
    """CPUs are many times slower on numbers between 0 and the smallest normal one."""
    attention = CentrePlaces(centres=49, heads=2, spread=0.4)((7, 7), prompts=0).softmax(dim=-1)
    assert attention.min() > torch.finfo(torch.float32).tiny


def test_a_small_spread_leaves_each_centre_its_own_pixel() -> None:
    """With as many centres as pixels and no spread, attention is the identity: h_l = W_v f_l."""
    term = build(local_centres=25, centre_spread=0.05)
    tokens = torch.randn(2, 25, 12)
    own = term.map_student.value(term.map_student.project(tokens))
    torch.testing.assert_close(term.local_features(tokens, branch="student"), own)


def test_the_relay_goes_through_the_teachers_neck() -> None:
    """1 - cos(neck(read-out of each local feature), embedding), and the neck's gradient reaches the student's map."""
    term = build(local_centres=49, read_out="neck", relay_weight=1, centre_spread=1.0)
    neck = torch.nn.Sequential(torch.nn.Flatten(1), torch.nn.Linear(490, 16)).requires_grad_(False)
    seen = replace(batch(), teacher_head=neck)
    relay = term(seen)["relay"]
    assert seen.student_tokens is not None
    tokens = term.read_out(term.local_features(seen.student_tokens, branch="student"))
    cosine = (functional.normalize(neck(tokens)) * functional.normalize(seen.teacher_embedding)).sum(1)
    torch.testing.assert_close(relay, (1 - cosine).mean())
    relay.backward()
    assert float(seen.student_tokens.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in neck.parameters())


def test_centres_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="local_centres must be 49, not 16"):
        build(local_centres=16, read_out="neck")
    with pytest.raises(ValueError, match="square number of local_centres, not 6"):
        build(local_centres=6, centre_spread=1.0)


def test_losses_are_zero_for_equal_features_and_two_for_unrelated_ones() -> None:
    shapes = Shapes(10, (7, 7), 16, 10, (7, 7), 16)
    term = UrfmLoss(UrfmSettings(local_centres=6, width=32, heads=4, anchor_weight=0), shapes)
    term.map_student.load_state_dict(term.map_teacher.state_dict())
    seen = batch(batch=64, prompts=0)
    tokens = seen.teacher_tokens
    same = term(DistillationBatch(tokens, seen.student_embedding, tokens, None, seen.teacher_embedding, seen.labels))
    assert float(same["attention"]) == 0
    assert float(same["feature"]) == 0
    other = term(
        DistillationBatch(
            torch.randn(64, 49, 10), seen.student_embedding, tokens, None, seen.teacher_embedding, seen.labels
        )
    )
    assert 1.5 < float(other["feature"]) < 2.5  # E (a - b)^2 of independent unit variables is 2


def test_constant_features_cannot_agree() -> None:
    """The collapse that plain MSE rewards: both sides say the same for every face."""
    constant = torch.randn(1, 6, 32).expand(8, -1, -1)
    assert float(standardise(constant).abs().max()) < 1e-2


@pytest.mark.parametrize("held", [True, False])
def test_the_student_term_moves_the_teacher_only_without_stop_gradient(held: bool) -> None:
    term = build(stop_gradient=held, adaptation_weight=0, anchor_weight=0)
    seen = batch()
    parts = term(seen)
    (parts["attention"] + parts["feature"]).backward()
    assert seen.student_tokens is not None and seen.student_tokens.grad is not None
    assert seen.teacher_tokens is not None and seen.extra_tokens is not None
    assert (seen.teacher_tokens.grad is None) == held
    assert (seen.extra_tokens.grad is None) == held


def test_adaptation_moves_the_teacher_and_not_the_student() -> None:
    seen = batch()
    build()(seen)["adaptation"].backward()
    assert seen.student_tokens is not None and seen.student_tokens.grad is None
    assert seen.extra_tokens is not None and seen.extra_tokens.grad is not None


def test_effective_rank_of_known_spectra() -> None:
    assert effective_rank(torch.eye(8)) == pytest.approx(8)
    assert effective_rank(torch.ones(20, 5)) == pytest.approx(1, abs=1e-3)
    half = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert effective_rank(half) == pytest.approx(2)


def test_diagnostics_fall_when_features_collapse() -> None:
    term = build()
    term(batch(batch=32))
    healthy = term.diagnostics()
    seen = batch(batch=32)
    assert seen.teacher_tokens is not None and seen.extra_tokens is not None
    flat = DistillationBatch(
        seen.student_tokens,
        seen.student_embedding,
        seen.teacher_tokens[:1].expand(32, -1, -1),
        seen.extra_tokens[:1].expand(32, -1, -1),
        seen.teacher_embedding,
        seen.labels,
    )
    term(flat)
    assert term.diagnostics()["urfm.std"] < 1e-4 * healthy["urfm.std"] + 1e-6
    assert healthy["urfm.effective_rank"] > 2


def test_a_teacher_without_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match="tokens"):
        UrfmLoss(UrfmSettings(), Shapes(12, (5, 5), 16, None, None, 16))
