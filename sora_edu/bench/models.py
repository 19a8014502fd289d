"""The form that all transformers take to be timed, ours and others'; and ours in that form."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sora_edu.bench.linear import swap_linear
from sora_edu.config import DiTConfig
from sora_edu.model.dit import VideoDiT
from sora_edu.model.image_dit import ImageDiT, ImageDiTConfig
from sora_edu.model.positions import Rope
from sora_edu.model.text import TextState
from sora_edu.shapes import Grid, Latent, Times

CLASSES = 10  # labels of the models without words


@dataclass(frozen=True, kw_only=True)
class Size:
    """What all transformers are built for: one width and depth, one latent, one text."""

    width: int = 256
    depth: int = 6
    heads: int = 4
    channels: int = 16  # of the latent
    grid: Grid = (8, 4, 4)  # 128 tokens of 1x2x2 latent cells
    batch: int = 8  # 1,024 tokens a step
    words: int = 32
    text_width: int = 128

    @property
    def tokens(self) -> int:
        nf, nh, nw = self.grid
        return nf * nh * nw

    @property
    def latent(self) -> tuple[int, int, int, int]:
        nf, nh, nw = self.grid
        return self.channels, nf, 2 * nh, 2 * nw

    @property
    def config(self) -> DiTConfig:
        return DiTConfig(
            channels=self.channels, width=self.width, depth=self.depth, heads=self.heads, text_width=self.text_width
        )


SMOKE = Size(width=48, depth=2, heads=2, channels=4, grid=(2, 2, 2), batch=2, words=4, text_width=16)


@dataclass(frozen=True)
class Model:
    """A network, how to ask it for a velocity, and the blocks that are worth compiling."""

    module: nn.Module
    velocity: Callable[[nn.Module, Latent, Times, TextState], Latent]
    blocks: list[nn.Module] = field(default_factory=list)


class NoWords(nn.Module):
    """Stands where cross-attention was, and adds nothing."""

    def forward(self, x: Tensor, context: Tensor, *, mask: Tensor | None = None) -> Tensor:
        return x.new_zeros(()).expand_as(x)


class ClassDiT(nn.Module):
    """Our VideoDiT steered by a label, as the DiT it is measured against: no words, no cross-attention."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.dit, self.label = VideoDiT(config), nn.Embedding(CLASSES, config.text_width)
        for block in self.dit.blocks:
            block.cross, block.norm_cross = NoWords(), nn.Identity()

    def forward(self, x_t: Latent, t: Times, labels: Tensor) -> Latent:
        pooled = self.label(labels)
        words = pooled[:, None]  #                                  b 1 d: never looked at
        return self.dit(x_t, t, TextState(words, torch.ones_like(words[..., 0], dtype=torch.bool), pooled))


def awake(module: nn.Module) -> nn.Module:
    """Our layers that start at zero hide their blocks: give them weights, so that nothing is timed on zeros."""
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return module


def video_dit(size: Size) -> Model:
    """Ours, with words."""
    module = awake(VideoDiT(size.config))
    return Model(module, lambda module, x_t, t, text: module(x_t, t, text), list(module.blocks))


def class_dit(size: Size) -> Model:
    """Ours, with a label."""
    module = awake(ClassDiT(size.config))
    return Model(module, lambda module, x_t, t, text: module(x_t, t, labels_like(x_t)), list(module.dit.blocks))


def image_dit(size: Size) -> Model:
    """Ours, the original DiT of the lessons: it sees the frames of a clip as one tall picture."""
    channels, f, h, w = size.latent
    config = ImageDiTConfig(
        depth=size.depth, width=size.width, heads=size.heads, channels=channels, size=(f * h, w), classes=CLASSES
    )
    module = awake(ImageDiT(config))

    def velocity(module, x_t, t, text):
        return module(x_t.flatten(2, 3), t, labels_like(x_t))[:, :channels].unflatten(2, (f, h))

    return Model(module, velocity, list(module.blocks))


def with_onednn(build: Callable[[Size], Model]) -> Callable[[Size], Model]:
    """The same model with ``bench.linear`` in it: another library multiplies, nothing else changes."""

    def rebuilt(size: Size) -> Model:
        model = build(size)
        swap_linear(model.module)
        return model

    return rebuilt


def labels_like(x: Tensor) -> Tensor:
    """A label for each sample."""
    return torch.arange(len(x), device=x.device) % CLASSES


def make_text(size: Size, batch: int, device: torch.device) -> TextState:
    """Encoded captions that are not there: noise of the right shape, all words valid."""
    words = torch.randn(batch, size.words, size.text_width, device=device)
    return TextState(words, torch.ones(batch, size.words, dtype=torch.bool, device=device), words.mean(1))


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Build within: the same weights each time, on the device, and the outer randomness as before."""
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        yield


class OnGrid(nn.Module):
    """Sparse attention in the place of full attention, told once what grid it works on."""

    def __init__(self, attention: nn.Module, grid: Grid):
        super().__init__()
        self.attention, self.grid = attention, grid

    def forward(self, x: Tensor, *, rope: Rope | None = None) -> Tensor:
        return self.attention(x, grid=self.grid, rope=rope)


def sparse_dit(attention: Callable[[int, int], nn.Module]) -> Callable[[Size], Model]:
    """A ClassDiT whose blocks take this attention, made from width and heads."""

    def build(size: Size) -> Model:
        model = class_dit(size)
        for block in model.blocks:
            block.attention = OnGrid(attention(size.width, size.heads), size.grid)
        return model

    return build
