"""What a reader would use instead: transformers and a U-Net from the package index, built at our size.

They come with ``pip install -c constraints.txt -e ".[bench]"`` and are imported only when asked for.
"""

import importlib
from types import ModuleType

import torch
from einops import rearrange
from torch import Tensor, nn

from sora_edu.bench.models import CLASSES, Model, Size, labels_like, seeded
from sora_edu.errors import InputError
from sora_edu.model.dit import VideoDiT, timestep_embedding
from sora_edu.model.layers import start_at_zero
from sora_edu.model.scaling import count_parameters
from sora_edu.model.text import TextState
from sora_edu.shapes import Latent, Times

PACKAGES = ("diffusers", "timm", "video_diffusion_pytorch")


def peer_package(name: str) -> ModuleType:
    """Import a peer's package, or say in InputError how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f'the peers of this suite are not installed ({error}); pip install -c constraints.txt -e ".[bench]", '
            "or choose --suite attention or --suite data, which need none"
        ) from error


def check_peers() -> None:
    """Raise InputError unless all packages of the extra can be imported."""
    for name in PACKAGES:
        peer_package(name)


class TextbookBlock(nn.Module):
    """DiT's block as its authors build it: timm's attention and MLP, an adaLN-Zero layer in each (2212.09748)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        timm = peer_package("timm.models.vision_transformer")
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = timm.Attention(width, num_heads=heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = timm.Mlp(width, 4 * width, act_layer=lambda: nn.GELU(approximate="tanh"))
        self.adaln = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.adaln(c)[:, None].chunk(6, -1)
        x = x + gate_1 * self.attn(self.norm1(x) * (1 + scale_1) + shift_1)
        return x + gate_2 * self.mlp(self.norm2(x) * (1 + scale_2) + shift_2)


class TextbookDiT(nn.Module):
    """DiT around these blocks; it sees the frames of a clip as one tall picture, and a label."""

    def __init__(self, size: Size):
        super().__init__()
        channels, f, h, w = size.latent
        timm = peer_package("timm.layers")
        self.patch = timm.PatchEmbed((f * h, w), 2, channels, size.width, strict_img_size=False)
        self.positions = nn.Parameter(0.02 * torch.randn(1, size.tokens, size.width), requires_grad=False)
        self.time = nn.Sequential(nn.Linear(256, size.width), nn.SiLU(), nn.Linear(size.width, size.width))
        self.label = nn.Embedding(CLASSES + 1, size.width)
        self.blocks = nn.ModuleList(TextbookBlock(size.width, size.heads) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, elementwise_affine=False, eps=1e-6)
        self.adaln = nn.Sequential(nn.SiLU(), nn.Linear(size.width, 2 * size.width))
        self.head = nn.Linear(size.width, 4 * channels)

    def forward(self, x_t: Latent, t: Times, labels: Tensor) -> Latent:
        return self.velocity(x_t, t, self.label(labels))

    def velocity(self, x_t: Latent, t: Times, label: Tensor, words: Tensor | None = None) -> Latent:
        f, h, w = x_t.shape[2:]
        x = self.patch(x_t.flatten(2, 3)) + self.positions
        n = x.shape[1]
        x = x if words is None else torch.cat((x, words), 1)
        c = self.time(timestep_embedding(t, 256)) + label
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.adaln(c)[:, None].chunk(2, -1)
        x = self.head(self.norm(x[:, :n]) * (1 + scale) + shift)
        return rearrange(
            x, "b (f h w) (ph pw c) -> b c f (h ph) (w pw)", f=f, h=h // 2, w=w // 2, ph=2, pw=2, c=x_t.shape[1]
        )


class TextbookTextDiT(TextbookDiT):
    """The same for captions: their mean in the place of the label, their words as tokens beside the patches.

    Both are ways of the DiT paper (section 3.2: adaLN-Zero, in-context conditioning); it starts as the identity.
    """

    def __init__(self, size: Size):
        super().__init__(size)
        self.label = nn.Linear(size.text_width, size.width)
        self.words = nn.Linear(size.text_width, size.width)
        for layer in (*(block.adaln[-1] for block in self.blocks), self.adaln[-1], self.head):
            start_at_zero(layer)

    def forward(self, x_t: Latent, t: Times, text: TextState) -> Latent:
        words = self.words(text.words) * text.mask[..., None]  # there is no mask in timm's attention
        return self.velocity(x_t, t, self.label(text.pooled), words)


def textbook_dit(size: Size) -> Model:
    """A DiT made of timm's blocks, with timm's default: PyTorch's fused attention."""
    module = TextbookDiT(size)
    return Model(module, lambda module, x_t, t, text: module(x_t, t, labels_like(x_t)), list(module.blocks))


def unfused_dit(size: Size) -> Model:
    """The same with timm's other attention, the plain product, as ours takes it for short sequences on a CPU."""
    model = textbook_dit(size)
    for block in model.blocks:
        block.attn.fused_attn = False
    return model


def ltx(size: Size) -> Model:
    """diffusers' LTX-Video: it takes tokens, packed as patches of 1x2x2."""
    nf, nh, nw = size.grid
    packed = 4 * size.channels
    module = peer_package("diffusers").LTXVideoTransformer3DModel(
        in_channels=packed, out_channels=packed, num_attention_heads=size.heads,
        attention_head_dim=size.width // size.heads, cross_attention_dim=size.width, num_layers=size.depth,
        caption_channels=size.text_width,
    )  # fmt: skip

    def velocity(module, x_t, t, text):
        tokens = rearrange(x_t, "b c f (h ph) (w pw) -> b (f h w) (c ph pw)", ph=2, pw=2)
        tokens = module(
            tokens, text.words, 1000 * t, text.mask, num_frames=nf, height=nh, width=nw, return_dict=False
        )[0]  # fmt: skip
        return rearrange(tokens, "b (f h w) (c ph pw) -> b c f (h ph) (w pw)", f=nf, h=nh, w=nw, ph=2, pw=2)

    return Model(module, velocity, list(module.transformer_blocks))


def wan(size: Size) -> Model:
    """diffusers' Wan."""
    module = peer_package("diffusers").WanTransformer3DModel(
        num_attention_heads=size.heads, attention_head_dim=size.width // size.heads, in_channels=size.channels,
        out_channels=size.channels, text_dim=size.text_width, ffn_dim=4 * size.width, num_layers=size.depth,
        rope_max_seq_len=64,
    )  # fmt: skip

    def velocity(module, x_t, t, text):
        return module(x_t, 1000 * t, text.words, return_dict=False)[0]

    return Model(module, velocity, list(module.blocks))


def cogvideox(size: Size) -> Model:
    """diffusers' CogVideoX: words and patches in one sequence."""
    _, f, h, w = size.latent
    module = peer_package("diffusers").CogVideoXTransformer3DModel(
        num_attention_heads=size.heads, attention_head_dim=size.width // size.heads, in_channels=size.channels,
        out_channels=size.channels, text_embed_dim=size.text_width, num_layers=size.depth, sample_width=w,
        time_embed_dim=size.width,
        sample_height=h, sample_frames=4 * f - 3, max_text_seq_length=size.words,
    )  # fmt: skip

    def velocity(module, x_t, t, text):
        return module(x_t.transpose(1, 2), text.words, 1000 * t, return_dict=False)[0].transpose(1, 2)

    return Model(module, velocity, list(module.transformer_blocks))


def latte(size: Size) -> Model:
    """diffusers' Latte: blocks within a frame and blocks along time take turns, so half as many of each."""
    module = peer_package("diffusers").LatteTransformer3DModel(
        num_attention_heads=size.heads, attention_head_dim=size.width // size.heads, in_channels=size.channels,
        out_channels=size.channels, num_layers=size.depth // 2, cross_attention_dim=size.width, attention_bias=True,
        sample_size=size.latent[-1], patch_size=2, activation_fn="gelu-approximate", num_embeds_ada_norm=1000,
        norm_type="ada_norm_single", norm_elementwise_affine=False, caption_channels=size.text_width,
        video_length=size.latent[1],
    )  # fmt: skip

    def velocity(module, x_t, t, text):
        return module(x_t, 1000 * t, text.words, return_dict=False)[0]

    return Model(module, velocity, [*module.transformer_blocks, *module.temporal_transformer_blocks])


def unet_3d(size: Size) -> Model:
    """video-diffusion-pytorch's 3-D U-Net (2204.03458) of the width that brings it nearest to our parameters."""
    Unet3D = peer_package("video_diffusion_pytorch").Unet3D
    rest = {"cond_dim": size.text_width, "channels": size.channels, "dim_mults": (1, 2, 4)[: 1 + size.depth // 3]}
    with seeded(0, torch.device("meta")):
        goal = count_parameters(VideoDiT(size.config))
        dim = min(range(8, 129, 8), key=lambda dim: abs(count_parameters(Unet3D(dim, **rest)) - goal))
    module = Unet3D(dim, **rest)
    blocks = [part for part in module.modules() if type(part).__name__ == "ResnetBlock"]
    return Model(module, lambda module, x_t, t, text: module(x_t, 1000 * t, cond=text.pooled), blocks)
