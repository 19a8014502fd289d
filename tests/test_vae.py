import pytest
import torch

from sora_edu.config import VAEConfig, WorldConfig
from sora_edu.errors import InputError
from sora_edu.model.vae import CausalConv, TimeUp, VideoVAE, kl_divergence, object_weights, psnr, vae_loss
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state

SMALL = VAEConfig(channels=4, widths=(8, 12, 16), enc_blocks=1, dec_blocks=1)


@pytest.fixture
def vae(generator) -> VideoVAE:
    """A VAE whose every weight counts: the zero starts of the residual blocks are filled."""
    torch.manual_seed(0)
    vae = VideoVAE(SMALL).eval()
    for p in vae.parameters():
        if not p.any():
            p.data.normal_(std=0.2, generator=generator)
    return vae


@pytest.mark.parametrize(("f", "h", "w"), [(1, 8, 12), (5, 16, 8), (17, 32, 20)])
def test_frames_become_1_plus_k_and_come_back(vae, f, h, w):
    z = vae.encode(torch.randn(2, 3, f, h, w))
    assert z.shape == (2, 4, 1 + (f - 1) // 4, h // 4, w // 4)
    assert z.shape[1:] == vae.config.latent_shape(f, h, w)
    assert vae.decode(z).shape == (2, 3, f, h, w)


@pytest.mark.parametrize("changed", [1, 4, 5, 8, 12, 16])
def test_a_later_frame_leaves_earlier_latents_as_they_were(vae, changed):
    video = torch.randn(1, 3, 17, 8, 8)
    other = video.clone()
    other[:, :, changed] += 1
    same = (vae.encode(video) == vae.encode(other)).flatten(3).all(-1).all(1)[0]
    first = -(-changed // 4)  # latent j covers the frames up to 4 j
    assert same[:first].all() and not same[first]


@pytest.mark.parametrize("changed", [1, 2, 3, 4])
def test_a_later_latent_leaves_earlier_frames_as_they_were(vae, changed):
    z = torch.randn(1, 4, 5, 2, 2)
    other = z.clone()
    other[:, :, changed] += 1
    same = (vae.decode(z) == vae.decode(other)).transpose(1, 2).flatten(2).all(-1)[0]
    first = 1 + 4 * (changed - 1)
    assert same[:first].all() and not same[first]


def test_an_image_is_the_first_latent_of_its_video(vae):
    video = torch.randn(1, 3, 9, 8, 8)
    torch.testing.assert_close(vae.encode(video[:, :, :1]), vae.encode(video)[:, :, :1])


def test_causal_conv_equals_a_plain_convolution_on_a_repeated_start():
    layer, x = CausalConv(3, 5), torch.randn(2, 3, 6, 2, 4)
    padded = torch.cat((x[:, :, :1].expand(-1, -1, 2, -1, -1), x), 2)
    by_hand = sum(
        torch.einsum("oc,bcfhw->bofhw", layer.conv.weight[:, :, k, 0, 0], padded[:, :, k : k + 6]) for k in range(3)
    )
    torch.testing.assert_close(layer(x), by_hand + layer.conv.bias[:, None, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_time_up_makes_1_plus_2k_frames(k):
    assert TimeUp(3, 4)(torch.randn(2, 3, 1 + k, 2, 2)).shape == (2, 4, 1 + 2 * k, 2, 2)


def test_fitted_scale_gives_zero_mean_and_unit_variance(vae):
    video = render(sample_state(32, WorldConfig(), generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        vae.fit_scale(vae.encode(video))
        z = vae.encode(video)
    std, mean = torch.std_mean(z, (0, 2, 3, 4))
    torch.testing.assert_close(std, torch.ones(4), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(mean, torch.zeros(4), atol=1e-3, rtol=0)


def test_decode_undoes_the_scale_of_encode(vae):
    video = torch.randn(1, 3, 5, 8, 8)
    plain = vae.decode(vae.encode(video))
    vae.latent_mean.fill_(0.3)
    vae.latent_scale.fill_(2.0)
    torch.testing.assert_close(vae.decode(vae.encode(video)), plain, rtol=1e-4, atol=1e-4)


def test_kl_equals_torch_distributions():
    mean, logvar = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6)
    posterior = torch.distributions.Normal(mean, (logvar / 2).exp())
    reference = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0, 1)).mean()
    torch.testing.assert_close(kl_divergence(mean, logvar), reference)


def test_psnr_closed_form():
    reference = torch.zeros(2, 3, 1, 4, 4)
    video = torch.stack((torch.full((3, 1, 4, 4), 0.2), torch.full((3, 1, 4, 4), 0.02)))
    torch.testing.assert_close(psnr(video, reference), torch.tensor([20.0, 40.0]))


def test_loss_is_its_parts_and_reaches_every_weight(vae, generator):
    parts = vae_loss(vae, torch.randn(2, 3, 5, 8, 8), kl_weight=0.3, generator=generator)
    torch.testing.assert_close(parts["loss"], parts["mse"] + 0.1 * parts["l1"] + 0.3 * parts["kl"])
    parts["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in vae.parameters())


def test_pixels_near_an_object_weigh_as_much_as_all_the_ground():
    clips = render(sample_state(24, WorldConfig(pair_fraction=0.5, pan_fraction=0.2), generator=torch.Generator()))
    weights = object_weights(clips)
    near = weights > 1
    assert weights.shape == (24, 1, 17, 32, 32)
    torch.testing.assert_close(weights.mean((1, 2, 3, 4)), torch.ones(24))
    torch.testing.assert_close((weights * near).mean((1, 2, 3, 4)), torch.full((24,), 0.5))


def test_what_is_near_an_object_is_what_touches_it():
    clip = torch.full((2, 3, 2, 5, 7), -0.5)
    clip[0, 1, 0, 2, 3] = 0.5  # one pixel, in one channel, in one frame; the second clip is ground alone
    weights = object_weights(clip)
    near = torch.zeros(2, 5, 7, dtype=torch.bool)
    near[0, 1:4, 2:5] = True
    assert torch.equal(weights[0, 0] > 1, near)
    torch.testing.assert_close(weights[0, 0][near].sum(), weights[0, 0][~near].sum())
    assert (weights[1] == 1).all()
    assert (object_weights(clip, contrast=2.0) == 1).all()


def test_weights_of_one_change_no_loss_and_others_weigh_both_errors(vae):
    video = torch.randn(2, 3, 5, 8, 8)
    noise = torch.randn(2, 4, 2, 2, 2)
    plain = vae_loss(vae, video, kl_weight=0.3, noise=noise)
    for name, value in vae_loss(vae, video, kl_weight=0.3, noise=noise, weights=torch.ones(2, 1, 5, 8, 8)).items():
        torch.testing.assert_close(value, plain[name])
    first = torch.zeros(2, 1, 5, 8, 8)
    first[:, :, 0] = 5  # the first frame alone
    weighted = vae_loss(vae, video, kl_weight=0.3, noise=noise, weights=first)
    mean, logvar = vae.encoder(video)
    error = (vae.decoder(mean + (logvar / 2).exp() * noise) - video)[:, :, 0]
    torch.testing.assert_close(weighted["mse"], error.square().mean())
    torch.testing.assert_close(weighted["l1"], error.abs().mean())
    torch.testing.assert_close(weighted["kl"], plain["kl"])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 16, 8, 8), "frames=16 is not 1 . a multiple of 4; use 13 or 17"),
        ((1, 3, 5, 30, 8), "height=30 .* use 28 or 32"),
        ((1, 3, 5, 8, 3), "width=3 .* use 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_those_that_do(vae, shape, message):
    with pytest.raises(InputError, match=message):
        vae.encode(torch.zeros(shape))


def test_levels_must_fit_the_compression_in_time():
    with pytest.raises(InputError, match="ft=8 does not fit 3 widths"):
        VAEConfig(ft=8)
