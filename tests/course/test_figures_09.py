"""The toy's velocity is exact, attention weights are those of the model, and the figures draw."""

import pytest
import torch

from sora_edu.config import DiTConfig, TextConfig
from sora_edu.course.lesson_09 import figures
from sora_edu.diffusion.flow import interpolate, velocity_target
from sora_edu.model.dit import TextToVideo


@pytest.fixture(scope="module")
def model():
    """A small transformer whose cross-attention is not zero."""
    torch.manual_seed(0)
    built = TextToVideo(
        DiTConfig(channels=4, width=24, depth=2, heads=2, text_width=16), TextConfig(width=16), 20
    ).eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return built


def encoded(model) -> tuple:
    ids = torch.tensor([[1, 5, 9, 0, 0], [1, 7, 0, 0, 0]])
    return model.text(ids, ids != 0)


@pytest.mark.parametrize("shares", [figures.ALL, figures.RIGHT])
def test_the_toys_velocity_is_the_mean_velocity_at_that_place(shares):
    generator, n, t = torch.Generator().manual_seed(0), 400_000, 0.4
    which = torch.multinomial(shares[0], n, replacement=True, generator=generator)
    x_0 = figures.MEANS[which] + figures.BLOB * torch.randn(n, 2, generator=generator)
    eps, times = torch.randn(n, 2, generator=generator), torch.full((n,), t)
    x_t = interpolate(x_0, eps, times)
    for place in ([0.5, 0.3], [-0.4, 0.8]):
        near = (x_t - torch.tensor(place)).norm(dim=1) < 0.1
        here = figures.toy_velocity(torch.tensor([place]), times[:1], shares)[0]
        torch.testing.assert_close(velocity_target(x_0, eps, times)[near].mean(0), here, atol=0.1, rtol=0)


def test_the_toys_density_adds_up_to_one():
    axis = torch.linspace(-5, 5, 201)
    plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    assert figures.toy_log_density(plane, figures.RIGHT).exp().sum() * 0.05**2 == pytest.approx(1, abs=1e-3)


def test_word_attention_gives_the_models_own_weights_and_leaves_it_as_it_was(model):
    x_t, t, text = torch.randn(2, 4, 3, 4, 4), torch.tensor([0.3, 0.8]), encoded(model)
    outputs = []
    hook = model.dit.blocks[1].cross.register_forward_hook(lambda module, given, output: outputs.append(output))
    with torch.no_grad():
        before = model.dit(x_t, t, text)
    hook.remove()
    weights = figures.word_attention(model.dit, x_t, t, text)
    with torch.no_grad():
        assert torch.equal(before, model.dit(x_t, t, text))
        cross = model.dit.blocks[1].cross
        v = cross.kv(text[0]).chunk(2, -1)[1].unflatten(-1, (2, -1)).transpose(1, 2)  # b heads l dh
        mixed = (weights[:, 1] @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(cross.out(mixed), outputs[0])
    assert weights.shape == (2, 2, 2, 3 * 2 * 2, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 2, 12))
    assert (weights[0, ..., 3:] == 0).all() and (weights[1, ..., 2:] == 0).all()
    assert not model.dit.blocks[0].cross._forward_hooks


def test_hooks_are_removed_after_an_error(model):
    with pytest.raises(ValueError):
        figures.word_attention(model.dit, torch.randn(2, 5, 3, 4, 4), torch.tensor([0.3, 0.4]), encoded(model))
    assert not any(block.cross._forward_hooks for block in model.dit.blocks)


def test_word_maps_put_each_weight_on_its_place():
    weights = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(1, 1, 1, 24, 5)
    maps = figures.word_maps(weights, (2, 3, 4))
    assert maps.shape == (1, 5, 2, 3, 4) and maps[0, 2, 1, 2, 3] == weights[0, 0, 0, 23, 2]


def test_the_slider_shows_another_picture_at_another_scale():
    clips = {s: torch.full((2, 3, 5, 8, 8), s / 8 * 2 - 1) for s in range(9)}
    draw = figures.guidance_strips(clips, ["one", "two"])
    assert draw(0).png() != draw(3).png() and draw(3).png() == draw(3).png()
    assert figures.show_scales(clips, [0, 8], 1, "two").png()


def test_the_other_figures_draw():
    assert "cosine" in repr(figures.show_similarity(torch.randn(3, 8), ["a", "red", "ring"]))
    assert "cfg_scale = 8" in repr(figures.show_toy({0: torch.randn(9, 2), 8: torch.randn(9, 2)}))
    assert figures.show_word_maps(torch.zeros(3, 5, 8, 8), torch.rand(2, 2, 2, 2), ["red", "ring"]).png()


def test_walkers_and_a_live_strip_draw():
    ends = {"long": torch.randn(80, 2), "short": torch.zeros(80, 2)}
    assert figures.show_walkers(ends).png()
    asked = []

    def pipe(prompt, *, seed):
        asked.append((prompt, seed))
        return torch.zeros(1, 3, 17, 8, 8)

    assert figures.live_strip(pipe)(5, "a ring").png() and asked == [("a ring", 5)]
