from functools import partial

import pytest
import torch

from sora_edu.diffusion.editing import keep_known, sample_known, sampler_from, times_of_frames
from sora_edu.diffusion.sampling import euler, heun, sde
from sora_edu.errors import InputError


def drawn(n=4000, frames=5, share=0.5, seed=0):
    return sample_known(n, frames, share=share, generator=torch.Generator().manual_seed(seed))


def test_known_frames_come_in_the_shares_that_are_asked_for():
    known = drawn()
    some = known.any(1)
    first = known[:, 0] & ~known[:, 1:].any(1)
    last = known[:, -1] & ~known[:, :-1].any(1)
    both = known[:, 0] & known[:, -1] & ~known[:, 1:-1].any(1)
    shares = [rows.float().mean().item() for rows in (some, first, last, both)]
    # a random set knows k of 5 frames with chance 1/6 each: none or all in a third, one of each single set in 1/30
    expected = [0.5 * (1 - 0.2 / 3), 0.5 * (0.4 + 0.2 / 30), 0.5 * (0.2 + 0.2 / 30), 0.5 * (0.2 + 0.2 / 60)]
    assert shares == pytest.approx(expected, abs=0.025)
    assert not known.all(1).any() and known[:, 2].any()
    assert torch.equal(known, drawn()) and not torch.equal(known, drawn(seed=1))


@pytest.mark.parametrize(
    ("share", "frames", "some"), [(0.0, 5, False), (1.0, 5, True), (1.0, 1, False), (1.0, 2, True)]
)
def test_a_single_frame_is_never_known(share, frames, some):
    known = drawn(200, frames, share)
    assert known.shape == (200, frames) and bool(known.any()) == some and not known.all(1).any()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InputError, match=r"share=.* is not in \[0, 1\]"):
        sample_known(3, 5, share=share)


KNOWN = torch.tensor([[True, False, False], [False, False, True]])


def test_times_of_frames_are_zero_where_a_frame_is_known():
    t = torch.tensor([0.3, 0.7])
    want = torch.tensor([[0.0, 0.3, 0.3], [0.7, 0.7, 0.0]])
    assert torch.equal(times_of_frames(t, KNOWN), want)
    assert torch.equal(times_of_frames(t[:, None].expand(-1, 3), KNOWN), want)


def test_the_model_sees_known_frames_clean_at_time_zero_and_moves_the_others_alone():
    x_0, x_t = torch.randn(2, 2, 4, 3, 5, 6)
    seen = []

    def model(x, t):
        seen.append((x, t))
        return x + 1

    v = keep_known(model, x_0, KNOWN)(x_t, torch.tensor([0.3, 0.7]))
    kept = KNOWN[:, None, :, None, None].expand_as(x_t)
    assert torch.equal(seen[0][0], torch.where(kept, x_0, x_t))
    assert torch.equal(seen[0][1], torch.tensor([[0.0, 0.3, 0.3], [0.7, 0.7, 0.0]]))
    assert torch.equal(v, torch.where(kept, 0, x_t + 1))


@pytest.mark.parametrize("sampler", [euler, heun, sde])
def test_samples_hold_the_known_frames_and_the_others_are_sampled_around_them(sampler):
    """With exact velocities towards the mean of the known frame, the other frames arrive there."""
    x_0 = torch.randn(2, 4, 3, 5, 6, dtype=torch.float64)
    noise = torch.randn(2, 4, 3, 5, 6, dtype=torch.float64)
    place = torch.tensor([0, 2])

    def towards(x_t, t):
        target = x_t[torch.arange(2), :, place][:, :, None]
        return torch.where(
            t[:, None, :, None, None] > 0, (x_t - target) / t.clamp(min=1e-9)[:, None, :, None, None], 7.0
        )

    draw = sampler_from(x_0, KNOWN, sampler=partial(sampler, generator=torch.Generator().manual_seed(0)))
    z = draw(towards, noise, steps=8)
    for i in range(2):
        assert torch.equal(z[i, :, place[i]], x_0[i, :, place[i]])
        torch.testing.assert_close(z[i], x_0[i, :, place[i]][:, None].expand(-1, 3, -1, -1))


def test_another_number_of_clips_than_known_ones_is_refused():
    draw = sampler_from(torch.randn(2, 4, 3, 5, 6), KNOWN)
    with pytest.raises(InputError, match="the noise is .* ask for as many clips, of the same size, as x_0 holds"):
        draw(lambda x, t: x, torch.randn(1, 4, 3, 5, 6), steps=2)
