import math
from dataclasses import replace

import pytest
import torch

from sora_edu.config import DiTConfig, TextConfig
from sora_edu.errors import InputError
from sora_edu.model.dit import TextToVideo, VideoDiT, VideoDiTBlock, modulate, timestep_embedding
from sora_edu.model.text import TextState

CONFIG = DiTConfig(channels=3, width=24, depth=2, heads=2, text_width=10)


def text(b: int = 2, l: int = 5):  # noqa: E741
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(l) < torch.tensor([[l], [l - 2]])[:b]
    return TextState(torch.randn(b, l, 10, generator=generator), mask, torch.randn(b, 10, generator=generator))


@pytest.fixture
def dit(generator) -> VideoDiT:
    """A model past its first steps: nothing is zero any more."""
    torch.manual_seed(0)
    dit = VideoDiT(CONFIG).eval()
    for p in dit.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=generator)
    return dit


@pytest.mark.parametrize("shape", [(1, 2, 2), (5, 8, 4), (3, 4, 6)])
def test_any_grid_that_the_patch_divides(dit, shape):
    x, t = torch.randn(2, 3, *shape), torch.tensor([0.2, 0.9])
    assert dit(x, t, text()).shape == x.shape
    assert math.prod(dit.grid(x)) == math.prod(shape) // 4


def test_a_new_block_is_the_identity():
    block, x = VideoDiTBlock(CONFIG), torch.randn(2, 3, 2, 24)
    rope = (torch.ones(6, 6), torch.zeros(6, 6))
    torch.testing.assert_close(block(x, torch.zeros(2, 3, 6, 24), text(), rope), x)


def test_a_new_model_predicts_zero_and_can_learn():
    dit = VideoDiT(CONFIG)
    velocity = dit(torch.randn(2, 3, 1, 4, 4), torch.tensor([0.1, 0.5]), text())
    assert not velocity.any()
    (velocity - 1).square().mean().backward()
    assert dit.head.bias.grad.any()


def test_gates_open_after_the_first_steps():
    torch.manual_seed(0)
    dit = VideoDiT(CONFIG)
    optimiser = torch.optim.SGD(dit.parameters(), lr=0.5)
    x, t = torch.randn(2, 3, 1, 4, 4), torch.tensor([0.1, 0.5])
    for _ in range(3):
        optimiser.zero_grad()
        (dit(x, t, text()) - x).square().mean().backward()
        optimiser.step()
    tables = torch.stack([block.scale_shift_table for block in dit.blocks])
    assert tables[:, 2].any() and tables[:, 5].any() and dit.modulation.weight.any()


def test_time_text_and_every_word_steer(dit):
    x, t, (words, mask, mean) = torch.randn(2, 3, 3, 4, 4), torch.tensor([0.3, 0.3]), text()
    base = dit(x, t, TextState(words, mask, mean))
    assert (dit(x, t + 0.1, TextState(words, mask, mean)) - base).abs().max() > 1e-4
    assert (dit(x, t, TextState(words, mask, mean + 1)) - base).abs().max() > 1e-4
    other = words.clone()
    other[:, 2] += 1
    assert (dit(x, t, TextState(other, mask, mean)) - base).abs().max() > 1e-4


def test_masked_words_do_not_steer(dit):
    x, t, (words, mask, mean) = torch.randn(2, 3, 3, 4, 4), torch.tensor([0.3, 0.3]), text()
    other = words.clone()
    other[~mask] += 5
    torch.testing.assert_close(dit(x, t, TextState(other, mask, mean)), dit(x, t, TextState(words, mask, mean)))


def test_every_token_sees_every_other(dit):
    x = torch.randn(1, 3, 5, 4, 4)
    t, steering = torch.tensor([0.5]), text(1)
    other = x.clone()
    other[:, :, -1, -1, -1] += 1  # the last token
    change = (dit(other, t, steering) - dit(x, t, steering)).abs().amax(1)[0]
    assert (change[0] > 1e-6).all()


def test_places_are_told_apart(dit):
    """Without positions, equal tokens would get equal velocities."""
    x = torch.ones(1, 3, 3, 4, 4)
    velocity = dit(x, torch.tensor([0.5]), text(1))
    tokens = velocity.unfold(3, 2, 2).unfold(4, 2, 2).permute(0, 2, 3, 4, 1, 5, 6).flatten(4).flatten(0, 3)
    distances = torch.cdist(tokens, tokens) + torch.eye(len(tokens))
    assert distances.min() > 1e-4


def test_the_side_of_the_canvas_changes_no_bit_at_its_own_size_and_sets_the_scale_at_others():
    def model(side):
        torch.manual_seed(0)
        dit = VideoDiT(replace(CONFIG, side=side)).eval()
        known = dict(dit.named_parameters())
        generator = torch.Generator().manual_seed(2)
        for name in sorted(known.keys() - {"canvas"}):
            known[name].data += 0.1 * torch.randn(known[name].shape, generator=generator)
        return dit

    cells, scaled, t = model(0), model(4), torch.tensor([0.2, 0.9])
    scaled.load_state_dict(cells.state_dict() | {"canvas": scaled.canvas.detach()})
    own, wide, larger = (torch.randn(2, 3, *shape) for shape in ((3, 4, 4), (3, 4, 6), (3, 6, 8)))
    for x in (own, wide):  # the shorter side counts
        assert torch.equal(cells(x, t, text()), scaled(x, t, text()))
    assert not torch.allclose(cells(larger, t, text()), scaled(larger, t, text()), atol=1e-3)
    with_canvas = scaled(larger, t, text())
    scaled.canvas.data += 1.0
    assert not torch.allclose(scaled(larger, t, text()), with_canvas, atol=1e-3)


def test_timestep_embedding_closed_form():
    got = timestep_embedding(torch.tensor([0.25]), 4)
    angles = [250.0, 250.0 / 100]
    torch.testing.assert_close(got, torch.tensor([[math.cos(a) for a in angles] + [math.sin(a) for a in angles]]))


def test_times_of_frames_are_embedded_one_by_one():
    t = torch.rand(2, 3)
    got = timestep_embedding(t, 8)
    assert torch.equal(got, torch.stack([timestep_embedding(t[:, f], 8) for f in range(3)], 1))


def test_what_a_frame_is_modulated_by_reaches_its_own_tokens_alone():
    x, shift, scale = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 1, 4), torch.randn(2, 3, 1, 4)
    got = modulate(x, shift, scale)
    for f in range(3):
        assert torch.equal(got[:, f], modulate(x[:, f], shift[:, f], scale[:, f]))


def test_groups_of_one_modulation_are_the_clip_in_one_group(dit):
    block, x = dit.blocks[0], torch.randn(2, 6, 24)
    rope = (torch.ones(6, 6), torch.zeros(6, 6))
    six = torch.randn(2, 1, 6, 24)
    whole = block(x[:, None], six, text(), rope)
    parts = block(x.unflatten(1, (3, 2)), six.expand(-1, 3, -1, -1), text(), rope)
    torch.testing.assert_close(parts.flatten(1, 2), whole[:, 0])


def test_equal_times_of_all_frames_are_the_time_of_the_clip(dit):
    x, t = torch.randn(2, 3, 5, 4, 6), torch.tensor([0.2, 0.9])
    torch.testing.assert_close(dit(x, t[:, None].expand(-1, 5), text()), dit(x, t, text()))


def test_the_time_of_one_frame_steers_it_first_and_the_others_through_attention(dit):
    x, t = torch.randn(1, 3, 5, 4, 4), torch.full((1, 5), 0.5)
    other = t.clone()
    other[:, 2] = 0
    change = (dit(x, other, text(1)) - dit(x, t, text(1))).abs().mean((0, 1, 3, 4))
    assert (change > 1e-6).all() and change.argmax() == 2


def test_times_of_frames_need_tokens_of_single_frames():
    dit = VideoDiT(replace(CONFIG, patch=(2, 2, 2)))
    dit(torch.zeros(1, 3, 4, 4, 4), torch.tensor([0.5]), text(1))
    with pytest.raises(InputError, match="a time for each latent frame, but a token spans 2; give one time for each"):
        dit(torch.zeros(1, 3, 4, 4, 4), torch.full((1, 4), 0.5), text(1))


def test_modulate_scales_by_one_more_than_scale_and_then_shifts():
    x, shift, scale = torch.tensor([[[2.0, 3.0]]]), torch.tensor([[[10.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    assert modulate(x, shift, scale).tolist() == [[[12.0, 6.0]]]


def test_what_a_block_modulates_is_normed_first(dit):
    block, x, rope = dit.blocks[0], torch.randn(2, 1, 6, 24), (torch.ones(6, 6), torch.zeros(6, 6))
    seen, heard = [], lambda module, given: seen.append(given[0])
    for part in (block.attention, block.mlp):
        part.register_forward_pre_hook(heard)
    block.scale_shift_table.data.zero_()
    block(100 * x + 7, torch.zeros(2, 1, 6, 24), text(), rope)
    for y in (y.flatten(1, -2) for y in seen):  # neither shift nor scale: the norm alone
        torch.testing.assert_close(y.mean(-1), torch.zeros(2, 6), atol=1e-4, rtol=0)
        torch.testing.assert_close(y.var(-1, unbiased=False), torch.ones(2, 6), atol=1e-3, rtol=0)


def test_text_and_transformer_learn_together():
    model = TextToVideo(CONFIG, TextConfig(width=10, depth=1, heads=1), vocabulary=20)
    for p in model.dit.parameters():
        p.data += 0.05
    ids = torch.tensor([[1, 5, 6, 0]])
    model(torch.randn(1, 3, 1, 4, 4), torch.tensor([0.5]), ids, ids != 0).square().mean().backward()
    assert model.text.embed.weight.grad[5].any() and not model.text.embed.weight.grad[7].any()


def test_sizes_that_the_patch_does_not_divide_are_refused(dit):
    with pytest.raises(InputError, match="h=5 .* use 4 or 6"):
        dit(torch.zeros(1, 3, 1, 5, 4), torch.tensor([0.5]), text(1))


def test_a_latent_of_another_type_than_the_weights_is_refused(dit, as_a_user):
    x_t, t = torch.zeros(1, 3, 1, 4, 4, dtype=torch.float64), torch.tensor([0.5])
    with pytest.raises(InputError, match=r"x_t is torch.float64, the weights are torch.float32; give both one type"):
        dit(x_t, t, text(1))
    with torch.autocast("cpu", torch.bfloat16):
        dit(x_t.float().bfloat16(), t, text(1))


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="width=30 must be an even multiple of heads=4"):
        DiTConfig(width=30, heads=4)
