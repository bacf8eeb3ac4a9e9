"""APT: prompts in a frozen teacher, against timm's own forward and against a plain loop over windows."""

import math
import re

import numpy as np
import pytest
import torch
from timm.models.swin_transformer import window_partition, window_reverse
from torch import nn

from facekd.common.errors import UsageError
from facekd.distillation.teachers.apt import adaptation_loss
from facekd.distillation.teachers.prompting import PromptedTransformer
from facekd.models.architectures.transformer import TransformerTeacher
from facekd.models.registry import create_model

TEACHERS = {
    # 28x28 tokens in 7x7 windows, so that the second block is shifted and has a mask
    "swin": ("swin_teacher", {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "embedding_width": 16}),
    # 20x20 tokens in 7x7 windows: padded
    "swin-padded": (
        "swin_teacher",
        {"img_size": 80, "embed_dim": 8, "depths": (2,), "num_heads": (2,), "embedding_width": 16},
    ),
    "vit": ("vit_teacher", {"patch_size": 28, "embed_dim": 16, "depth": 3, "num_heads": 2, "embedding_width": 16}),
    "vit-class-token": (
        "vit_teacher",
        {"patch_size": 28, "embed_dim": 16, "depth": 2, "num_heads": 2, "embedding_width": 16, "class_token": True},
    ),
    "swinv2": (
        "swinv2_teacher",
        {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "embedding_width": 16},
    ),
    # the head reads the class token; registers; rotary positions
    "dinov2": (
        "timm_teacher",
        {"model": "vit_small_patch14_reg4_dinov2", "depth": 2, "embed_dim": 48, "embedding_width": 16, "neck": "timm"},
    ),
    "eva02": (
        "timm_teacher",
        {"model": "eva02_tiny_patch14_224", "depth": 2, "embed_dim": 48, "embedding_width": 16, "neck": "timm"},
    ),
    "dinov3": (
        "timm_teacher",
        {"model": "vit_small_patch16_dinov3", "depth": 2, "embed_dim": 96, "embedding_width": 16, "neck": "timm"},
    ),
}


def make(kind: str) -> TransformerTeacher:
    name, arguments = TEACHERS[kind]
    teacher = create_model(name, **arguments)
    assert isinstance(teacher, TransformerTeacher)
    for module in teacher.modules():  # statistics and biases that matter
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean = torch.randn(16)
            module.running_var = torch.rand(16) + 0.5
    for name_, parameter in teacher.named_parameters():
        if "relative_position_bias_table" in name_ or ".cpb_mlp." in name_:
            nn.init.normal_(parameter)
        if "gamma" in name_ or re.search(r"norm[12]\.weight", name_):  # layer scale and SwinV2's norms begin near 0
            nn.init.ones_(parameter)
    return teacher.eval()


def images(kind: str, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 3, *((80, 80) if kind == "swin-padded" else (112, 112)))


@pytest.mark.parametrize("kind", TEACHERS)
def test_without_prompts_it_is_the_plain_teacher_exactly(kind: str) -> None:
    teacher, x = make(kind), images(kind)
    seen = PromptedTransformer(teacher, prompts=0)(x)
    assert torch.equal(seen.embedding, teacher(x))
    assert torch.equal(seen.tokens, teacher.forward_features(x))
    assert seen.extra_tokens is None


@pytest.mark.parametrize("kind", ["swin", "swin-padded"])
@pytest.mark.parametrize("attention_bias", [0.0, -1.5])
def test_windows_with_prompts_from_a_plain_loop(kind: str, attention_bias: float) -> None:
    """One block, window by window and sample by sample, with the teacher's layers and explicit softmax attention."""
    teacher, t = make(kind), 3
    prompted = PromptedTransformer(teacher, prompts=t, attention_bias=attention_bias)
    stage = teacher.body.layers[0]
    assert isinstance(stage, nn.Module)
    for depth in range(2):
        block = stage.blocks[depth]  # type: ignore[index]
        size = block.input_resolution[0]
        x, prompts = torch.randn(2, size, size, 8), torch.randn(2, t, 8)
        given_x, given_p = prompted._swin_block(block, x, prompts, (0, depth))

        for sample in range(2):
            normed = block.norm1(x[sample : sample + 1])
            own = block.norm1(prompts[sample])
            shift = block.shift_size[0]
            rolled = torch.roll(normed, (-shift, -shift), dims=(1, 2)) if shift else normed
            pad = -size % 7
            rolled = nn.functional.pad(rolled, (0, 0, 0, pad, 0, pad))
            windows = window_partition(rolled, (7, 7)).view(-1, 49, 8)
            out_windows, out_prompts = [], []
            for index, window in enumerate(windows):
                tokens = torch.cat([window, own])
                heads = block.attn.num_heads
                q, k, v = block.attn.qkv(tokens).view(49 + t, 3, heads, -1).permute(1, 2, 0, 3)
                scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
                scores[:, :49, :49] += block.attn._get_rel_pos_bias()[0]
                if block.attn_mask is not None:
                    scores[:, :49, :49] += block.attn_mask[index]
                scores[:, :49, 49:] += attention_bias
                out = block.attn.proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(49 + t, 8))
                out_windows.append(out[:49])
                out_prompts.append(out[49:])
            merged = window_reverse(torch.stack(out_windows).view(-1, 7, 7, 8), (7, 7), size + pad, size + pad)
            merged = merged[:, :size, :size]
            merged = torch.roll(merged, (shift, shift), dims=(1, 2)) if shift else merged
            y = x[sample] + merged[0]
            p = prompts[sample] + torch.stack(out_prompts).mean(0)
            torch.testing.assert_close(given_x[sample], y + block.mlp(block.norm2(y)))
            torch.testing.assert_close(given_p[sample], p + block.mlp(block.norm2(p)))


@pytest.mark.parametrize("kind", ["swin", "swinv2"])
def test_prompts_that_no_patch_hears_leave_the_plain_teacher(kind: str) -> None:
    teacher, x = make(kind), images(kind)
    seen = PromptedTransformer(teacher, prompts=4, attention_bias=-200.0)(x)
    close = {} if kind == "swin" else {"rtol": 1e-3, "atol": 1e-4}  # SwinV2's are sums of larger logits
    torch.testing.assert_close(seen.embedding, teacher(x), **close)
    torch.testing.assert_close(seen.tokens, teacher.forward_features(x), **close)


def test_an_attention_bias_is_for_a_swin() -> None:
    with pytest.raises(UsageError, match=r"attention_bias = -4 is for a Swin"):
        PromptedTransformer(make("vit"), prompts=1, attention_bias=-4.0)


def test_the_adaptation_loss_is_one_minus_the_cosine_of_what_differs_from_face_to_face() -> None:
    teacher, student = torch.randn(6, 8, requires_grad=True), torch.randn(6, 8, requires_grad=True)
    loss = adaptation_loss(teacher, student)
    t, s = teacher.detach().numpy(), student.detach().numpy()
    t = t / np.linalg.norm(t, axis=1, keepdims=True)
    s = s / np.linalg.norm(s, axis=1, keepdims=True)
    t, s = t - t.mean(axis=0), s - s.mean(axis=0)
    cosines = [np.dot(p, q) / np.linalg.norm(p) / np.linalg.norm(q) for p, q in zip(t, s, strict=True)]
    assert float(loss.detach()) == pytest.approx(1 - float(np.mean(cosines)), abs=1e-5)
    loss.backward()
    assert teacher.grad is not None and student.grad is None


@pytest.mark.parametrize("kind", TEACHERS)
def test_a_sample_does_not_depend_on_its_batch_mates(kind: str) -> None:
    prompted, x = PromptedTransformer(make(kind), prompts=4), images(kind)
    together = prompted(x)
    for index in range(len(x)):
        alone = prompted(x[index : index + 1])
        torch.testing.assert_close(together.embedding[index], alone.embedding[0])
        torch.testing.assert_close(together.extra_tokens[index], alone.extra_tokens[0])


def test_prompts_that_differ_per_sample_stay_with_their_sample() -> None:
    """The known trap: prompts in (window, batch) order while windows are (batch, window)."""
    teacher = make("swin")
    prompted = PromptedTransformer(teacher, prompts=2)
    block = teacher.body.layers[0].blocks[1]  # type: ignore[index,union-attr]
    x, prompts = torch.randn(3, 28, 28, 8), torch.randn(3, 2, 8)
    together_x, together_p = prompted._swin_block(block, x, prompts, (0, 1))
    for index in range(3):
        alone_x, alone_p = prompted._swin_block(block, x[index : index + 1], prompts[index : index + 1], (0, 1))
        torch.testing.assert_close(together_x[index], alone_x[0])
        torch.testing.assert_close(together_p[index], alone_p[0])


@pytest.mark.parametrize("kind", TEACHERS)
def test_shapes_and_who_learns(kind: str) -> None:
    prompted, x = PromptedTransformer(make(kind), prompts=4), images(kind)
    seen = prompted(x)
    n = math.prod(prompted.teacher.grid)
    assert seen.tokens.shape == (3, n, prompted.teacher.token_width)
    assert seen.extra_tokens.shape == (3, 4, prompted.teacher.token_width)
    seen.embedding.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in prompted.prompts)
    assert all(p.grad is None for p in prompted.teacher.parameters())


def test_a_swin_has_one_set_a_stage_and_a_vit_one_every_so_many_blocks() -> None:
    assert [p.shape[-1] for p in PromptedTransformer(make("swin"), prompts=4).prompts] == [8, 16]
    vit = make("vit")
    assert len(PromptedTransformer(vit, prompts=4).prompts) == 3
    assert len(PromptedTransformer(vit, prompts=4, every=2).prompts) == 2
    assert PromptedTransformer(vit, prompts=4, every=2)(images("vit")).tokens.shape == (3, 16, 16)


def test_the_teacher_stays_in_eval() -> None:
    prompted = PromptedTransformer(make("swin"), prompts=1)
    prompted.train()
    assert prompted.training
    assert not any(module.training for module in prompted.teacher.modules())


def test_initial_prompts_are_within_the_bound_of_vpt() -> None:
    prompts = PromptedTransformer(make("swin"), prompts=64).prompts[0]
    bound = math.sqrt(6 / (3 * 4 * 4 + 8))
    assert 0.9 * bound < float(prompts.detach().abs().max()) <= bound


def test_a_cnn_is_no_teacher_for_prompts() -> None:
    with pytest.raises(UsageError, match="Transformer"):
        PromptedTransformer(nn.Conv2d(3, 3, 1), prompts=1)  # type: ignore[arg-type]


def test_a_teacher_that_does_not_learn_now_gives_the_same_without_gradients() -> None:
    teacher, x = PromptedTransformer(make("vit"), prompts=2), images("vit")
    learning = teacher(x)
    teacher.learns = False
    resting = teacher(x)
    assert all(torch.equal(a, b) for a, b in zip(learning, resting, strict=True))
    assert learning.embedding.requires_grad
    assert not any(output.requires_grad for output in resting)


def test_a_masked_pixel_gets_exactly_no_attention() -> None:
    """timm's -100 leaves e^-100, a denormal number."""
    teacher = PromptedTransformer(make("swin"), prompts=2)
    block = teacher.teacher.body.layers[0].blocks[1]
    windows = len(block.attn_mask)
    bias = teacher._windows._bias(block, windows, (0, 1), torch.device("cpu"), torch.float32)
    attention = bias.softmax(dim=-1)[0, :: block.attn.num_heads, :49, :49]
    assert (attention == 0).equal(block.attn_mask != 0)


def test_swinv2_windows_with_prompts_from_a_plain_loop() -> None:
    """One shifted block, window by window, with explicit cosine attention."""
    teacher, t = make("swinv2"), 3
    prompted = PromptedTransformer(teacher, prompts=t, attention_bias=-0.5)
    block = teacher.body.layers[0].blocks[1]
    attn = block.attn
    x, prompts = torch.randn(2, 28, 28, 8), torch.randn(2, t, 8)
    given_x, given_p = prompted._swin_block(block, x, prompts, (0, 1))
    table = attn.cpb_mlp(attn.relative_coords_table).view(-1, attn.num_heads)
    bias = 16 * torch.sigmoid(table[attn.relative_position_index]).permute(2, 0, 1)
    for sample in range(2):
        rolled = torch.roll(x[sample : sample + 1], (-3, -3), dims=(1, 2))
        windows = window_partition(rolled, (7, 7)).view(-1, 49, 8)
        out_windows, out_prompts = [], []
        for index, window in enumerate(windows):
            tokens = torch.cat([window, prompts[sample]])
            qkv = tokens @ attn.qkv.weight.T + torch.cat([attn.q_bias, torch.zeros(8), attn.v_bias])
            q, k, v = qkv.view(49 + t, 3, attn.num_heads, -1).permute(1, 2, 0, 3)
            q, k = nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1)
            scores = q @ k.transpose(-2, -1) * attn.logit_scale.clamp(max=math.log(100)).exp()
            scores[:, :49, :49] += bias + block.attn_mask[index]
            scores[:, :49, 49:] += 8 - 0.5  # the middle of the bias's range
            out = attn.proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(49 + t, 8))
            out_windows.append(out[:49])
            out_prompts.append(out[49:])
        merged = window_reverse(torch.stack(out_windows).view(-1, 7, 7, 8), (7, 7), 28, 28)
        merged = torch.roll(merged, (3, 3), dims=(1, 2))[0]
        y = x[sample] + block.norm1(merged)
        p = prompts[sample] + block.norm1(torch.stack(out_prompts).mean(0))
        torch.testing.assert_close(given_x[sample], y + block.norm2(block.mlp(y)))
        torch.testing.assert_close(given_p[sample], p + block.norm2(block.mlp(p)))


@pytest.mark.parametrize("kind", ["eva02", "dinov3"])
def test_rotary_positions_turn_patches_and_no_prompts(kind: str) -> None:
    """Prompts put before the class token, where timm turns nothing, give the same."""
    teacher, x = make(kind), images(kind)
    prompted = PromptedTransformer(teacher, prompts=3)
    body = teacher.body
    tokens, rope = body._pos_embed(body.patch_embed(x))
    tokens = body.norm_pre(tokens)
    for block, prompts in zip(body.blocks, prompted.prompts, strict=True):
        block.attn.num_prefix_tokens += 3
        tokens = block(torch.cat([prompts.expand(len(x), -1, -1), tokens], dim=1), rope=rope)[:, 3:]
        block.attn.num_prefix_tokens -= 3
    torch.testing.assert_close(prompted(x).embedding, body.forward_head(body.norm(tokens)))


def test_a_network_without_known_blocks_is_no_teacher_for_prompts() -> None:
    teacher = create_model("timm_teacher", model="cait_xxs24_224", depth=1, embedding_width=16)
    with pytest.raises(UsageError, match="apt: prompts are for Swin, SwinV2, ViT and EVA, not for Cait; leave apt out"):
        PromptedTransformer(teacher, prompts=1)  # type: ignore[arg-type]
