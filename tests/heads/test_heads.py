"""The margin heads: papers' formulas recomputed, exact gradients, precision, memory, errors."""

import math
from typing import Any

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from facekd.common.errors import UsageError
from facekd.heads import HEADS, AdaFace, ArcFace, CombinedMargin, CosFace, MarginHead, create_head
from facekd.heads.margin import angles, monotone_cosine

NAMES = list(HEADS)


def made(
    name: str, *, b: int = 6, e: int = 8, n: int = 5, **arguments: float
) -> tuple[MarginHead, torch.Tensor, torch.Tensor]:
    """A float64 head, embeddings [b, e] of differing norms and labels [b]."""
    head = create_head(name, embedding_width=e, num_identities=n, **arguments).double()
    embeddings = torch.randn(b, e, dtype=torch.double) * torch.linspace(1, 20, b, dtype=torch.double)[:, None]
    return head, embeddings, torch.arange(b) % n


def reference(head: MarginHead, x: torch.Tensor, y: torch.Tensor, norms: torch.Tensor | None = None) -> torch.Tensor:
    """Logits entry by entry from the papers' formulas, with math.acos, in Python floats; norms as constants."""
    logits = torch.empty(len(x), head.num_identities, dtype=torch.double)
    for i, a in enumerate(x.tolist()):
        length = math.sqrt(sum(v * v for v in a))
        for j, w in enumerate(head.centres.tolist()):
            cosine = sum(p * q for p, q in zip(a, w, strict=True)) / length / math.sqrt(sum(v * v for v in w))
            if y[i] == j:
                theta = math.acos(max(-1.0, min(1.0, cosine)))
                cosine = target(head, theta, length if norms is None else float(norms[i]))
            logits[i, j] = head.scale * cosine
    return logits


def target(head: MarginHead, theta: float, norm: float) -> float:
    """What each paper puts in the place of cos(theta), for angles that stay below pi."""
    if isinstance(head, ArcFace):
        assert theta + head.margin < math.pi
        return math.cos(theta + head.margin)
    if isinstance(head, CosFace):
        return math.cos(theta) - head.margin
    if isinstance(head, CombinedMargin):
        assert head.m1 * theta + head.m2 < math.pi
        return math.cos(head.m1 * theta + head.m2) - head.m3
    assert isinstance(head, AdaFace)
    z = (norm - float(head.norm_mean)) / (float(head.norm_std) + 1e-3)
    z = max(-1.0, min(1.0, z * head.concentration))
    g_angle, g_add = -head.margin * z, head.margin * z + head.margin
    return math.cos(theta + g_angle) - g_add


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("arcface", {}),
        ("arcface", {"margin": 0.2, "scale": 30.0}),
        ("cosface", {}),
        ("combined", {}),
        ("combined", {"m1": 1.1, "m2": 0.2, "m3": 0.1}),
        ("adaface", {}),
    ],
)
def test_logits_are_the_papers(name: str, arguments: dict) -> None:
    head, x, y = made(name, **arguments)
    head.eval()
    if isinstance(head, AdaFace):
        head.norm_mean.fill_(25.0)
        head.norm_std.fill_(8.0)
    torch.testing.assert_close(head(x, y), reference(head, x, y))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_exact(name: str) -> None:
    """Central differences of the reference in float64, for embeddings and centres; AdaFace's norms are constants."""
    head, x, y = made(name, b=3, e=4, n=3)
    head.eval()
    if isinstance(head, AdaFace):
        head.norm_mean.fill_(25.0)
        head.norm_std.fill_(8.0)
    weights = torch.randn(3, 3, dtype=torch.double)
    norms = x.norm(dim=1)
    x.requires_grad_()
    (head(x, y) * weights).sum().backward()
    step = 1e-6
    with torch.no_grad():
        for values, gradient in ((x, x.grad), (head.centres, head.centres.grad)):
            assert gradient is not None
            # The centres are about 0.02 long, so the step shrinks with them.
            h = step * float(values.norm())
            for index in range(values.numel()):
                flat = values.view(-1)
                old = float(flat[index])
                flat[index] = old + h
                above = (reference(head, x, y, norms) * weights).sum()
                flat[index] = old - h
                below = (reference(head, x, y, norms) * weights).sum()
                flat[index] = old
                numeric = float(above - below) / (2 * h)
                assert numeric == pytest.approx(
                    float(gradient.view(-1)[index]), rel=1e-5, abs=1e-5 * float(gradient.norm())
                )


@pytest.mark.parametrize("name", ["arcface", "cosface", "combined"])
def test_gradcheck_also_past_pi(name: str) -> None:
    head, x, y = made(name)
    x = torch.cat([x, -3 * head.centres.detach()[:1] + 0.001]).requires_grad_()  # nearly opposite to its centre
    y = torch.cat([y, y[:1]])
    centres = (100 * head.centres.detach()).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, c: functional_call(head, {"centres": c}, (a, y)), (x, centres))


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, math.pi - 1e-3, math.pi])
@pytest.mark.parametrize("name", NAMES)
def test_near_plus_and_minus_one(name: str, angle: float) -> None:
    """float32 logits and gradients are those of float64 where arccos has lost half its digits, and finite at +-1."""
    rotated = torch.tensor([[math.cos(angle), math.sin(angle), 0.0]], dtype=torch.double)
    centres = torch.eye(3, dtype=torch.double)[:2]
    results = []
    for dtype in (torch.float32, torch.float64):
        head = create_head(name, embedding_width=3, num_identities=2).to(dtype).eval()
        head.centres.data.copy_(centres)
        x = (5 * rotated).to(dtype).requires_grad_()
        logits = head(x, torch.tensor([0]))
        F.cross_entropy(logits, torch.tensor([0])).backward()
        assert x.grad is not None and head.centres.grad is not None
        results.append((logits.detach().double(), x.grad.double(), head.centres.grad.double()))
    for single, double in zip(*results, strict=True):
        assert single.isfinite().all()
        if 0 < angle < math.pi:  # at exactly 0 and pi the direction of steepest change is not defined
            torch.testing.assert_close(single, double, rtol=1e-3, atol=1e-4)


def test_angles_keep_small_angles_that_arccos_loses() -> None:
    for angle in (1e-5, 1e-4, 1.0, math.pi - 1e-4):
        a = torch.tensor([[1.0, 0.0]])
        b = torch.tensor([[math.cos(angle), math.sin(angle)]])
        assert float(angles(a, b)) == pytest.approx(angle, rel=1e-3 if angle < 1 else 1e-6)
    assert float(torch.arccos(torch.tensor([1.0]) * math.cos(1e-5))) == 0.0  # what the formula is there to avoid


def test_the_target_falls_on_past_pi_without_a_jump() -> None:
    phi = torch.linspace(0, 3 * math.pi - 0.01, 4001, dtype=torch.double)
    value = monotone_cosine(phi)
    below_pi = phi <= math.pi
    assert torch.equal(value[below_pi], torch.cos(phi[below_pi]))
    steps = value.diff()
    assert (steps <= 0).all()
    assert steps.abs().max() <= phi.diff().max()  # slope at most 1: no jump


@pytest.mark.parametrize("name", NAMES)
def test_only_the_target_column_carries_a_margin(name: str) -> None:
    head, x, y = made(name)
    head.eval()
    logits, plain = head(x, y), head.scale * head.cosines(x)
    own = F.one_hot(y, head.num_identities).bool()
    assert torch.equal(logits[~own], plain[~own])
    if name != "adaface":  # which eases low-quality samples, by design
        assert (logits[own] < plain[own]).all()


def test_equivalent_heads() -> None:
    """Combined with one margin is ArcFace or CosFace; AdaFace at the running mean is CosFace (z = 0)."""
    x, y = torch.randn(6, 8), torch.arange(6) % 5
    arguments = {"embedding_width": 8, "num_identities": 5}
    heads = {
        "arc": ArcFace(**arguments, margin=0.5),
        "arc2": CombinedMargin(**arguments, m1=1, m2=0.5, m3=0),
        "cos": CosFace(**arguments, margin=0.4),
        "cos2": CombinedMargin(**arguments, m1=1, m2=0, m3=0.4),
        "cos3": AdaFace(**arguments, margin=0.4).eval(),
    }
    for head in heads.values():
        head.centres.data.copy_(heads["arc"].centres)
    unit = F.normalize(x) * 20  # AdaFace's initial mean norm
    assert torch.equal(heads["arc"](x, y), heads["arc2"](x, y))
    torch.testing.assert_close(heads["cos"](x, y), heads["cos2"](x, y))
    torch.testing.assert_close(heads["cos"](unit, y), heads["cos3"](unit, y), rtol=1e-5, atol=1e-4)


def test_lengths_of_embeddings_and_centres_do_not_matter() -> None:
    for name in ("arcface", "cosface", "combined"):
        head, x, y = made(name)
        before = head(x, y)
        head.centres.data.mul_(7)
        torch.testing.assert_close(head(3 * x, y), before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_under_autocast(name: str, dtype: torch.dtype) -> None:
    head = create_head(name, embedding_width=64, num_identities=10).eval()
    embeddings, labels = torch.randn(4, 64), torch.arange(4)
    with torch.autocast("cpu", dtype):
        inside = head(embeddings, labels)
        cosines = head.cosines(embeddings)
    assert inside.dtype == cosines.dtype == torch.float32
    assert torch.equal(inside, head(embeddings, labels))
    # Half-precision embeddings, as a backbone under autocast gives them, are raised before anything is computed.
    half = embeddings.to(dtype)
    with torch.autocast("cpu", dtype):
        assert torch.equal(head(half, labels), head(half.float(), labels))


class LargeTensors(TorchDispatchMode):
    """Counts operators whose result is a new tensor of at least `size` elements."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.made: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {a.data_ptr() for a in args if isinstance(a, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.numel() == self.size and result.data_ptr() not in inputs:
            self.made.append(str(func))
        return result


@pytest.mark.parametrize("name", NAMES)
def test_one_matrix_of_logits_forward_and_none_backward(name: str) -> None:
    b, e, n = 16, 8, 1000
    head = create_head(name, embedding_width=e, num_identities=n)
    x = torch.randn(b, e, requires_grad=True)
    with LargeTensors(b * n) as forward:
        logits = head(x, torch.arange(b))
    assert forward.made == ["aten.mm.default"]
    gradient = torch.randn(b, n)
    with LargeTensors(b * n) as backward:
        logits.backward(gradient)
    assert [op for op in backward.made if "view" not in op and "t.default" not in op] == []


def test_adaface_statistics() -> None:
    """Running mean and (unbiased) deviation of the clipped norms, in training mode only, kept in the state."""
    head = AdaFace(embedding_width=4, num_identities=3, momentum=0.9)
    x = F.normalize(torch.randn(4, 4)) * torch.tensor([[2.0], [30.0], [50.0], [400.0]])
    y = torch.tensor([0, 1, 2, 0])
    head.eval()(x, y)
    assert (float(head.norm_mean), float(head.norm_std)) == (20.0, 100.0)
    head.train()(x, y)
    norms = [2.0, 30.0, 50.0, 100.0]
    mean = sum(norms) / 4
    std = math.sqrt(sum((v - mean) ** 2 for v in norms) / 3)
    assert float(head.norm_mean) == pytest.approx(0.9 * 20 + 0.1 * mean, rel=1e-5)
    assert float(head.norm_std) == pytest.approx(0.9 * 100 + 0.1 * std, rel=1e-5)
    head(x[:1], y[:1])  # one sample has no deviation
    assert head.norm_std.isfinite()
    assert {"centres", "norm_mean", "norm_std"} == set(head.state_dict())


def test_adaface_asks_more_of_sharp_images_by_addition_and_of_blurred_ones_by_angle() -> None:
    """Figure 3 of the paper: at z = -1 the margin is ArcFace's, at z = 1 it is cos(theta - m) - 2m."""
    head = AdaFace(embedding_width=2, num_identities=2, margin=0.4, concentration=10.0).double().eval()
    head.norm_std.fill_(1.0)
    theta = torch.tensor([1.0, 1.0], dtype=torch.double)
    blurred, sharp = head.target_cosine(theta, torch.tensor([1.0, 90.0], dtype=torch.double)).tolist()
    assert blurred == pytest.approx(math.cos(1.4))
    assert sharp == pytest.approx(math.cos(0.6) - 0.8)


@pytest.mark.parametrize("name", NAMES)
def test_training_separates_identities(name: str) -> None:
    """A linear map under each head reaches a margin between four noisy directions."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(64) % 4
    inputs = torch.eye(8)[labels] * 10 + torch.randn(64, 8, generator=generator)
    head = create_head(name, embedding_width=8, num_identities=4, scale=16.0)
    model = torch.nn.Linear(8, 8)
    optimiser = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.02)
    for _ in range(80):
        optimiser.zero_grad()
        F.cross_entropy(head(model(inputs), labels), labels).backward()
        optimiser.step()
    cosines = head.cosines(model(inputs))
    own = cosines[torch.arange(64), labels]
    others = cosines.masked_fill(F.one_hot(labels, 4).bool(), -1).amax(1)
    assert (own > others + 0.5).all()


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("arcfase", {}, "unknown head 'arcfase'; valid: arcface, cosface, combined, adaface"),
        ("arcface", {"m": 0.5}, "no argument 'm'; valid: margin, scale"),
        ("arcface", {"margin": 28.6}, "margin 28.6 .* radians, not degrees"),
        ("cosface", {"margin": -0.1}, "margin -0.1"),
        ("cosface", {"scale": 0}, "scale 0 must be above 0"),
        ("combined", {"m1": 0.9}, "m1 0.9"),
        ("adaface", {"momentum": 1.0}, "momentum 1.0"),
        ("adaface", {"num_identities": 0}, "num_identities 0"),
    ],
)
def test_errors(name: str, arguments: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        create_head(name, **({"embedding_width": 4, "num_identities": 3} | arguments))


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_named(label: int) -> None:
    head = create_head("arcface", embedding_width=4, num_identities=3)
    with pytest.raises(UsageError, match=rf"label {label} is outside 0\.\.2"):
        head(torch.randn(2, 4), torch.tensor([0, label]))


@pytest.mark.parametrize(("shape", "labels"), [((2, 5), 2), ((2, 4), 3)])
def test_shapes_that_do_not_fit_are_named(shape: tuple, labels: int) -> None:
    head = create_head("cosface", embedding_width=4, num_identities=3)
    with pytest.raises(UsageError, match=r"embeddings"):
        head(torch.randn(*shape), torch.zeros(labels, dtype=torch.long))
