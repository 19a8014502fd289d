"""A causal video VAE: 1 + 4k frames become 1 + k latent frames, and an image is a video of one frame.

Space-to-depth stem, then residual blocks whose 3x3x3 convolution is split into space and time, (2+1)D
(Tran et al. 1711.11248). Time is padded on the left only, so no latent ever sees a later frame (lesson 05).
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_edu.checked import checked
from sora_edu.config import VAEConfig
from sora_edu.model.layers import start_at_zero
from sora_edu.shapes import Latent, Video

Features = Float[Tensor, "b channels frames h w"]  # of other width or length than what came in


class RMSNorm(nn.Module):
    """Root-mean-square norm over channels alone: statistics over time would let the future leak in."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1, 1))

    @checked
    def forward(self, x: Video) -> Video:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6) * self.weight


class CausalConv(nn.Module):
    """Convolution over three frames, this one and the two before it; the first frame is repeated on the left."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels_out, (3, 1, 1), stride=(stride, 1, 1))

    @checked
    def forward(self, x: Video) -> Features:
        return self.conv(torch.cat((x[:, :, :1], x[:, :, :1], x), 2))


class ResBlock(nn.Module):
    """x + time(space(x)), each after a norm and a SiLU; starts as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm_space = RMSNorm(channels)
        self.norm_time = RMSNorm(channels)
        self.space = nn.Conv3d(channels, channels, (1, 3, 3), padding=(0, 1, 1))
        self.time = CausalConv(channels, channels)
        start_at_zero(self.time.conv)

    @checked
    def forward(self, x: Video) -> Video:
        y = self.space(F.silu(self.norm_space(x)))
        return x + self.time(F.silu(self.norm_time(y)))


class TimeUp(nn.Module):
    """Doubles time causally: 1 + k frames become 1 + 2k, the first frame giving one and the others two."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv = CausalConv(channels_in, 2 * channels_out)

    @checked
    def forward(self, x: Video) -> Features:
        return rearrange(self.conv(x), "b (two c) f h w -> b c (f two) h w", two=2)[:, :, 1:]


class Encoder(nn.Module):
    """Video to the mean and log-variance of its latent."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.fs = config.fs
        widths = config.widths
        layers = [nn.Conv3d(3 * config.fs**2, widths[0], (1, 3, 3), padding=(0, 1, 1))]
        for level, width in enumerate(widths):
            if level:
                layers.append(CausalConv(widths[level - 1], width, stride=2))
            layers += [ResBlock(width) for _ in range(config.enc_blocks)]
        last = nn.Conv3d(widths[-1], 2 * config.channels, 1)  # mean and log-variance
        self.layers = nn.Sequential(*layers, RMSNorm(widths[-1]), nn.SiLU(), last)

    @checked
    def forward(self, video: Float[Tensor, "b 3 f h w"]) -> tuple[Latent, Latent]:
        x = rearrange(video, "b c f (h ph) (w pw) -> b (ph pw c) f h w", ph=self.fs, pw=self.fs)  # space to depth
        mean, logvar = self.layers(x).chunk(2, 1)
        return mean, logvar.clamp(-20, 10)  # a wild guess must not become inf


class Decoder(nn.Module):
    """Latent to video."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.fs = config.fs
        widths = config.widths[::-1]
        layers = [nn.Conv3d(config.channels, widths[0], (1, 3, 3), padding=(0, 1, 1))]
        for level, width in enumerate(widths):
            if level:
                layers.append(TimeUp(widths[level - 1], width))
            layers += [ResBlock(width) for _ in range(config.dec_blocks)]
        last = nn.Conv3d(widths[-1], 3 * config.fs**2, (1, 3, 3), padding=(0, 1, 1))
        self.layers = nn.Sequential(*layers, RMSNorm(widths[-1]), nn.SiLU(), last)

    @checked
    def forward(self, z: Latent) -> Video:
        return rearrange(self.layers(z), "b (ph pw c) f h w -> b c f (h ph) (w pw)", ph=self.fs, pw=self.fs)


class VideoVAE(nn.Module):
    """Encoder, decoder, and the shift and scale that give its latents zero mean and unit variance per channel."""

    def __init__(self, config: VAEConfig | None = None):
        super().__init__()
        self.config = config or VAEConfig()
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)
        self.register_buffer("latent_mean", torch.zeros(self.config.channels, 1, 1, 1))
        self.register_buffer("latent_scale", torch.ones(self.config.channels, 1, 1, 1))

    @checked
    def encode(self, video: Float[Tensor, "b 3 f h w"], *, generator: torch.Generator | None = None) -> Latent:
        """Scaled latent ``z = (E(x) - latent_mean) * latent_scale``: the mean, or a sample with a generator."""
        self.config.latent_shape(*video.shape[2:])  # or an InputError that names the sizes that fit
        mean, logvar = self.encoder(video)
        if generator is not None:
            mean = mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=generator, device=mean.device)
        return (mean - self.latent_mean) * self.latent_scale

    @checked
    def decode(self, z: Float[Tensor, "b {self.config.channels} lf lh lw"]) -> Video:
        """The video of a scaled latent, not clamped: pixels about [-1, 1]."""
        return self.decoder(z / self.latent_scale + self.latent_mean)

    @torch.no_grad()
    @checked
    def fit_scale(self, latents: Latent) -> None:
        """Set mean and scale from latents made while they were 0 and 1 (LDM 2112.10752, Appendix G)."""
        std, mean = torch.std_mean(latents.float(), (0, 2, 3, 4), keepdim=True)
        self.latent_mean.copy_(mean[0])
        self.latent_scale.copy_(1 / std[0].clamp(min=1e-6))


@checked
def kl_divergence(mean: Latent, logvar: Latent) -> Float[Tensor, ""]:
    """KL(N(mean, var) || N(0, 1)), averaged over latent values (Kingma and Welling 1312.6114, appendix B)."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


@checked
def object_weights(video: Float[Tensor, "b c f h w"], *, contrast: float = 0.15) -> Float[Tensor, "b 1 f h w"]:
    """Weights of pixels, mean 1 in each clip: those near an object count together as much as all the ground.

    An object is whatever differs from the clip's median colour by more than ``contrast`` in any channel, and a pixel
    that touches one is near it. A clip of ground alone weighs 1 everywhere.
    """
    ground = video.flatten(2).median(2).values[..., None, None, None]
    apart = (video - ground).abs().amax(1, keepdim=True) > contrast
    near = F.max_pool3d(apart.to(video.dtype), (1, 3, 3), stride=1, padding=(0, 1, 1))
    share = near.mean((1, 2, 3, 4), keepdim=True)
    weights = torch.where(near > 0, 0.5 / share, 0.5 / (1 - share))
    return torch.where((share > 0) & (share < 1), weights, 1.0)


@checked
def vae_loss(
    vae: VideoVAE,
    video: Float[Tensor, "b 3 f h w"],
    *,
    kl_weight: float,
    weights: Float[Tensor, "b 1 f h w"] | None = None,
    generator: torch.Generator | None = None,
    noise: Latent | None = None,
) -> dict[str, Tensor]:
    """Squared error plus a little absolute error, which sharpens edges, plus the weighted KL term (negative ELBO).

    Returns the loss and its parts; ``mse`` is on pixels in [-1, 1]. Pixels count alike unless ``weights`` of mean 1 are
    given, such as object_weights. The latent's noise is drawn where it is not given.
    """
    mean, logvar = vae.encoder(video)
    mean = mean.float()
    logvar = logvar.float()
    if noise is None:
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    z = mean + (logvar / 2).exp() * noise
    error = vae.decoder(z).float() - video
    square = error.square()
    absolute = error.abs()
    if weights is not None:
        square = weights * square
        absolute = weights * absolute
    mse = square.mean()
    l1 = absolute.mean()
    kl = kl_divergence(mean, logvar)
    return {"loss": mse + 0.1 * l1 + kl_weight * kl, "mse": mse, "l1": l1, "kl": kl}


@checked
def psnr(video: Video, reference: Video) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio of each clip in dB, for pixels in [-1, 1] (peak to peak 2)."""
    mse = (video.clamp(-1, 1) - reference).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / mse.clamp(min=1e-10))
