"""Video VAEs to be timed against ours: CogVideoX's from diffusers, and a small one in the manner of TAEHV.

All compress 4x4x4 to 16 channels and learn from the same clips with the same loss; the others are narrowed until they
have as many parameters as ours, and shown at our widths as well.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from sora_edu.bench.models import seeded
from sora_edu.bench.peers import peer_package
from sora_edu.bench.rounds import Contestant
from sora_edu.bench.steps import AS_IT_COMES, Switches, trained
from sora_edu.compute import compile_each
from sora_edu.config import TINY, VAEConfig, WorldConfig
from sora_edu.model.scaling import count_parameters, flops, measure_macs
from sora_edu.model.vae import ResBlock, VideoVAE, kl_divergence, psnr
from sora_edu.seeds import Stream, step_generator
from sora_edu.shapes import Latent, Video
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state

RATE = 8e-4  # learning rate, as the tiny preset's
WARM_UP = 10  # steps of it; equal time leaves the slowest VAE few steps


@dataclass(frozen=True, kw_only=True)
class ClipSize:
    """The clips, and the widths of all VAEs."""

    world: WorldConfig = TINY.world
    vae: VAEConfig = TINY.vae
    batch: int = 4
    bank: int = 512  # clips to learn from
    seconds: float = 30.0  # equal training time, after which the PSNR is taken


SMOKE_CLIPS = ClipSize(
    world=WorldConfig(frames=9, height=16, width=16),
    vae=VAEConfig(channels=4, widths=(8, 8, 8), enc_blocks=1, dec_blocks=1),
    batch=2,
    bank=4,
    seconds=0.0,
)


@dataclass(frozen=True)
class Coder:
    """A VAE: its mean and log-variance (None for a plain autoencoder), its decoder, the blocks worth compiling."""

    module: nn.Module
    encode: Callable[[Video], tuple[Latent, Latent | None]]
    decode: Callable[[Latent], Video]
    blocks: list[nn.Module] = field(default_factory=list)


def ours(config: VAEConfig) -> Coder:
    """Ours: space-to-depth and (2+1)D blocks."""
    module = VideoVAE(config)
    return Coder(module, module.encoder, module.decoder, [m for m in module.modules() if isinstance(m, ResBlock)])


def cogvideox_vae(config: VAEConfig) -> Coder:
    """diffusers' CogVideoX VAE: full 3x3x3 convolutions from the pixels on; the whole clip in one piece."""
    levels = len(config.widths)
    module = peer_package("diffusers").AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * levels, up_block_types=("CogVideoXUpBlock3D",) * levels,
        block_out_channels=config.widths, latent_channels=config.channels, layers_per_block=config.enc_blocks,
        norm_num_groups=8, temporal_compression_ratio=config.ft,
    )  # fmt: skip
    module.num_sample_frames_batch_size = module.num_latent_frames_batch_size = 10_000

    def encode(video: Video) -> tuple[Latent, Latent]:
        posterior = module.encode(video).latent_dist
        return posterior.mean, posterior.logvar

    blocks = [part for part in module.modules() if type(part).__name__ == "CogVideoXResnetBlock3D"]
    return Coder(module, encode, lambda z: module.decode(z).sample, blocks)


class MemoryBlock(nn.Module):
    """Three 3x3 convolutions on each frame beside the one before it."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Video) -> Video:
        past = F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1]
        y = self.layers(rearrange(torch.cat((x, past), 1), "b c f h w -> (b f) c h w"))
        return F.relu(x + rearrange(y, "(b f) c h w -> b c f h w", b=len(x)))


class FrameConv(nn.Conv2d):
    """A convolution of every frame."""

    def forward(self, x: Video) -> Tensor:
        y = super().forward(rearrange(x, "b c f h w -> (b f) c h w"))
        return rearrange(y, "(b f) c h w -> b c f h w", b=len(x))


class PairFrames(nn.Module):
    """Two frames become one; the clip's first frame counts twice, so that 1 + 2k become 1 + k."""

    def __init__(self, channels: int):
        super().__init__()
        self.mix = FrameConv(2 * channels, channels, 1, bias=False)

    def forward(self, x: Video) -> Tensor:
        x = torch.cat((x[:, :, :1], x), 2)
        return self.mix(rearrange(x, "b c (f two) h w -> b (two c) f h w", two=2))


class SplitFrames(nn.Module):
    """One frame becomes two, and the first of all is dropped: 1 + k become 1 + 2k."""

    def __init__(self, channels: int):
        super().__init__()
        self.mix = FrameConv(channels, 2 * channels, 1, bias=False)

    def forward(self, x: Video) -> Tensor:
        return rearrange(self.mix(x), "b (two c) f h w -> b c (f two) h w", two=2)[:, :, 1:]


class FrameAutoencoder(nn.Module):
    """In the manner of TAEHV (madebyollin's tiny autoencoder for Hunyuan Video), written anew: 2-D convolutions, blocks
    that see the frame before, no norm and no KL term. Space is halved by strides, time by pairs."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        widths, c = config.widths, config.channels
        layers = [FrameConv(3, widths[0], 3, padding=1), nn.ReLU()]
        for before, width in pairwise(widths):
            layers += [PairFrames(before), FrameConv(before, width, 3, stride=2, padding=1, bias=False)]
            layers += [MemoryBlock(width) for _ in range(config.enc_blocks + 1)]
        self.encoder = nn.Sequential(*layers, FrameConv(widths[-1], c, 3, padding=1))
        layers = [FrameConv(c, widths[-1], 3, padding=1), nn.ReLU()]
        for before, width in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers += [MemoryBlock(before) for _ in range(config.dec_blocks + 1)]
            layers += [nn.Upsample(scale_factor=(1, 2, 2)), SplitFrames(before)]
            layers += [FrameConv(before, width, 3, padding=1, bias=False)]
        self.decoder = nn.Sequential(*layers, nn.ReLU(), FrameConv(widths[0], 3, 3, padding=1))


def frame_autoencoder(config: VAEConfig) -> Coder:
    """TAEHV-like."""
    module = FrameAutoencoder(config)
    blocks = [part for part in module.modules() if isinstance(part, MemoryBlock)]
    return Coder(module, lambda video: (module.encoder(video), None), module.decoder, blocks)


def as_small_as_ours(build: Callable[[VAEConfig], Coder]) -> Callable[[VAEConfig], Coder]:
    """The same VAE with its widths scaled down, in steps of eight, to the parameters of ours."""

    def narrow(config: VAEConfig) -> Coder:
        choices = [[max(8, 8 * round(w * share / 320)) for w in config.widths] for share in range(2, 41)]
        with seeded(0, torch.device("meta")):
            goal = count_parameters(ours(config).module)
            sizes = [count_parameters(build(replace(config, widths=tuple(widths))).module) for widths in choices]
        best = min(range(len(sizes)), key=lambda i: abs(sizes[i] - goal))
        return build(replace(config, widths=tuple(choices[best])))

    return narrow


CODERS = {
    "ours": ours,
    "CogVideoX's": as_small_as_ours(cogvideox_vae),
    "TAEHV-like": as_small_as_ours(frame_autoencoder),
}
WIDE_CODERS = {"CogVideoX's, our widths": cogvideox_vae, "TAEHV-like, our widths": frame_autoencoder}


def coder_loss(coder: Coder, video: Video, generator: torch.Generator) -> Tensor:
    """Our VAE's loss, for any of them; a plain autoencoder has no noise and no KL term."""
    z, logvar = coder.encode(video)
    z, kl = z.float(), 0.0
    if logvar is not None:
        logvar = logvar.float()
        kl = kl_divergence(z, logvar)
        z = z + (logvar / 2).exp() * torch.randn(z.shape, generator=generator, device=z.device)
    decoded = coder.decode(z).float()
    return F.mse_loss(decoded, video) + 0.1 * F.l1_loss(decoded, video) + TINY.kl_weight * kl


def clips(size: ClipSize, n: int, split: str, seed: int, device: torch.device) -> Video:
    """Clips of the toy world."""
    state = sample_state(n, size.world, split=split, generator=step_generator(seed, Stream.STUDENT, 0))
    return render(state, size.world).to(device)


def vae_contestant(
    name: str,
    build: Callable[[VAEConfig], Coder],
    size: ClipSize,
    *,
    device: torch.device,
    switches: Switches = AS_IT_COMES,
) -> Contestant:
    """A training step of a VAE on a fixed batch of clips."""
    with seeded(0, device):
        coder = build(size.vae)
    video, generator = clips(size, size.batch, "train", 0, device), torch.Generator(device).manual_seed(0)
    macs = measure_macs(lambda: coder.decode(coder.encode(video)[0]))
    if switches.compiled:
        compile_each(coder.blocks)
    optimisers = [torch.optim.AdamW(coder.module.parameters(), lr=RATE, fused=switches.fused)]

    def loss() -> Tensor:
        return coder_loss(coder, video, generator)

    step, held = trained(coder.module, loss, optimisers=optimisers, bf16=switches.bf16, device=device)
    return Contestant(
        name,
        step,
        work=size.batch,
        unit="clip",
        flops=flops(macs, training=True),
        parameters=count_parameters(coder.module),
        peak=switches.peak,
        held=held,
    )


def psnr_after(build: Callable[[VAEConfig], Coder], size: ClipSize, *, steps: int, device: torch.device) -> float:
    """PSNR on held-out clips after so many steps in fp32, warmed up and decayed to zero as our own training does."""
    with seeded(0, device):
        coder = build(size.vae)
    bank, held_out = clips(size, size.bank, "train", 1, device), clips(size, min(32, size.bank), "heldout", 2, device)
    optimiser = torch.optim.AdamW(coder.module.parameters(), lr=RATE, betas=(0.9, 0.98), fused=True)
    generator, batch = torch.Generator(device).manual_seed(1), [held_out]

    def loss() -> Tensor:
        return coder_loss(coder, batch[0], generator)

    step, _ = trained(coder.module, loss, optimisers=[optimiser], bf16=False, device=device)
    for i in range(steps):
        batch[0] = bank[torch.randint(len(bank), (size.batch,), generator=generator, device=device)]
        optimiser.param_groups[0]["lr"] = RATE * min(1, (i + 1) / WARM_UP, (steps - i) / max(1, 0.4 * steps))
        step()
    with torch.no_grad():
        return float(psnr(coder.decode(coder.encode(held_out)[0]).float(), held_out).mean())
