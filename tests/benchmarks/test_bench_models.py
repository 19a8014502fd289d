"""Our models in the form in which they are timed: the same FLOPs as counted in closed form, the same maths."""

import math

import pytest
import torch
from torch import nn

from sora_edu.bench.linear import Linear
from sora_edu.bench.models import (
    SMOKE,
    Model,
    Size,
    class_dit,
    image_dit,
    make_text,
    seeded,
    sparse_dit,
    video_dit,
    with_onednn,
)
from sora_edu.bench.run import run_suite
from sora_edu.bench.steps import Switches, adamw, clip_contestant, muon, step_contestant, trained
from sora_edu.errors import InputError
from sora_edu.model.dit import VideoDiTBlock
from sora_edu.model.scaling import count_macs, count_parameters, flops, measure_macs
from sora_edu.model.sparse import WindowAttention

CPU = torch.device("cpu")


def inputs(size: Size = SMOKE, batch: int = 1):
    with seeded(0, CPU):
        return torch.randn(batch, *size.latent), torch.full((batch,), 0.5), make_text(size, batch, CPU)


def built(build, size: Size = SMOKE):
    with seeded(0, CPU):
        return build(size)


@pytest.mark.parametrize("build", [video_dit, class_dit, image_dit])
def test_every_model_gives_a_velocity_of_the_latents_shape(build):
    model, (x, t, text) = built(build), inputs(batch=3)
    assert model.velocity(model.module, x, t, text).shape == x.shape
    assert len(model.blocks) == SMOKE.depth


def test_counted_macs_equal_the_closed_form():
    model, (x, t, text) = built(video_dit), inputs()
    counted = measure_macs(lambda: model.velocity(model.module, x, t, text))
    assert counted == count_macs(SMOKE.config, SMOKE.grid, words=SMOKE.words)


def test_a_step_is_three_forwards_of_the_whole_batch():
    step = step_contestant("it", video_dit, SMOKE, device=CPU)
    assert step.flops == flops(SMOKE.batch * count_macs(SMOKE.config, SMOKE.grid, words=SMOKE.words), training=True)
    assert step.work == SMOKE.batch * SMOKE.tokens


def test_without_words_there_is_no_cross_attention_left():
    module = built(class_dit).module
    cross = sum(count_parameters(block.cross) + count_parameters(block.norm_cross) for block in module.dit.blocks)
    assert cross == 0
    whole = count_parameters(built(video_dit).module)
    block = VideoDiTBlock(SMOKE.config)
    removed = SMOKE.depth * (count_parameters(block.cross) + count_parameters(block.norm_cross))
    assert count_parameters(module) == whole - removed + module.label.weight.numel()


def test_one_window_over_the_whole_grid_is_full_attention():
    full = built(class_dit)
    windowed = built(sparse_dit(lambda d, heads: WindowAttention(d, heads, window=SMOKE.grid)))
    for layer in (full.module.dit.head, full.module.dit.modulation):  # they start at zero and would hide all else
        nn.init.normal_(layer.weight, std=0.1)
    state = full.module.state_dict()
    windowed.module.load_state_dict(
        {k.replace(".attention.", ".attention.attention.attention."): state[k] for k in state}
    )
    x, t, text = inputs(batch=2)
    ours, theirs = (m.velocity(m.module, x, t, text) for m in (full, windowed))
    assert ours.abs().max() > 0.01 and torch.allclose(ours, theirs, atol=1e-4)


def test_other_linear_layers_in_a_model_change_how_it_multiplies_and_nothing_else():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Sequential(nn.Linear(6, 4)))

    def build(size):
        return Model(Other(), lambda module, x_t, t, text: module.layers(x_t))

    before, after = (built(b).module for b in (build, with_onednn(build)))
    assert [type(part) for part in after.layers.modules() if isinstance(part, nn.Linear)] == [Linear, Linear]
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    x = torch.randn(3, 4)
    torch.testing.assert_close(after.layers(x), before.layers(x))


def test_a_step_goes_down_the_clipped_gradient_and_leaves_none():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 3.0)
    sgd = torch.optim.SGD(module.parameters(), lr=0.1)
    step, held = trained(module, lambda: module.weight.square().sum() / 2, optimisers=[sgd], bf16=False, device=CPU)
    assert float(step()) == 4.5  # the gradient is 3, clipped to 1
    assert float(module.weight.detach()) == pytest.approx(2.9) and module.weight.grad is None
    assert held() == 4


@pytest.mark.parametrize(("optimisers", "fused"), [(adamw, None), (adamw, True), (muon, None)])
def test_every_optimiser_steps(optimisers, fused):
    step = step_contestant("it", video_dit, SMOKE, device=CPU, optimisers=optimisers, switches=Switches(fused=fused))
    assert all(torch.isfinite(step.run()) for _ in range(2))


def test_adamw_holds_three_numbers_a_parameter_between_steps():
    step = step_contestant("it", class_dit, SMOKE, device=CPU)
    step.run()
    assert 12 * step.parameters <= step.held() <= 12.1 * step.parameters + 4 * 1000


def test_two_passes_of_guidance_draw_the_same_clip_as_one():
    def lively(size):
        model = video_dit(size)
        for layer in (model.module.head, model.module.modulation):  # at zero the text would change nothing
            nn.init.normal_(layer.weight, std=0.1)
        return model

    one, two = (clip_contestant("it", lively, SMOKE, device=CPU, steps=2, batched=b) for b in (True, False))
    plain = clip_contestant("it", lively, SMOKE, device=CPU, steps=2, cfg_scale=1.0)
    assert torch.allclose(one.run(), two.run(), atol=1e-4) and not torch.allclose(one.run(), plain.run(), atol=1e-2)
    assert one.flops == two.flops == 2 * plain.flops


def test_building_leaves_the_outer_randomness_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    built(video_dit)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", ["attention", "data"])
def test_suites_without_peers_run_at_smoke_size(name):
    result = run_suite(name, smoke=True)
    assert result["rounds"] == {"kept": 2, "dropped": 0} and not result["failed"]
    assert all(c["ratio"] > 0 for c in result["comparisons"])
    assert {c["verdict"] for c in result["comparisons"]} <= {"", "undecided"}  # smoke judges nothing


def test_the_flop_model_of_the_attention_suite_is_the_lessons():
    def macs_a_token(grid):
        with seeded(0, CPU):
            model, x = class_dit(Size()), torch.randn(1, 16, grid[0], 2 * grid[1], 2 * grid[2])
        return measure_macs(lambda: model.velocity(model.module, x, torch.ones(1), None)) / math.prod(grid)

    d = Size().width
    blocks = (12 * d + 2 * 1024) / (12 * d + 2 * 64)  # weights and pairs alone
    assert blocks == pytest.approx(1.6, abs=0.01)
    assert macs_a_token((16, 8, 8)) / macs_a_token((4, 4, 4)) == pytest.approx(blocks, rel=0.02)


def test_unknown_suites_and_too_few_rounds_are_refused():
    with pytest.raises(InputError, match="suite 'speed' is unknown; use one of step, sample, vae, attention, data"):
        run_suite("speed")
    with pytest.raises(InputError, match="rounds=6 is too few for a median to trust; use 7 or more"):
        run_suite("data", rounds=6)
    with pytest.raises(InputError, match="device meta cannot be timed here"):
        run_suite("data", device="meta")
