"""Models to be timed, ours and others', under one form; a step of training and a clip drawn, the same for all."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sora_edu.bench_rounds import Contestant
from sora_edu.config import DiTConfig, TrainConfig
from sora_edu.dit import VideoDiT
from sora_edu.flow import flow_loss
from sora_edu.guidance import guided
from sora_edu.image_dit import ImageDiT, ImageDiTConfig
from sora_edu.optimiser import make_optimisers
from sora_edu.sampling import euler
from sora_edu.scaling import count_parameters, flops
from sora_edu.shapes import Grid, Latent, Times
from sora_edu.text import TextState

CLASSES = 10  # labels of the models without words
RATE = 1e-4  # learning rate: no figure depends on it


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
        return x.new_zeros(())


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
        return self.dit(x_t, t, (words, torch.ones_like(words[..., 0], dtype=torch.bool), pooled))


def video_dit(size: Size) -> Model:
    """Ours, with words."""
    module = VideoDiT(size.config)
    return Model(module, lambda module, x_t, t, text: module(x_t, t, text), list(module.blocks))


def class_dit(size: Size) -> Model:
    """Ours, with a label."""
    module = ClassDiT(size.config)
    return Model(module, lambda module, x_t, t, text: module(x_t, t, labels_like(x_t)), list(module.dit.blocks))


def image_dit(size: Size) -> Model:
    """Ours, the original DiT of the lessons: it sees the frames of a clip as one tall picture."""
    channels, f, h, w = size.latent
    module = ImageDiT(
        ImageDiTConfig(
            depth=size.depth, width=size.width, heads=size.heads, channels=channels, size=(f * h, w), classes=CLASSES
        )
    )

    def velocity(module, x_t, t, text):
        return module(x_t.flatten(2, 3), t, labels_like(x_t))[:, :channels].unflatten(2, (f, h))

    return Model(module, velocity, list(module.blocks))


def labels_like(x: Tensor) -> Tensor:
    """A label for each sample."""
    return torch.arange(len(x), device=x.device) % CLASSES


def make_text(size: Size, batch: int, device: torch.device) -> TextState:
    """Encoded captions that are not there: noise of the right shape, all words valid."""
    words = torch.randn(batch, size.words, size.text_width, device=device)
    return words, torch.ones(batch, size.words, dtype=torch.bool, device=device), words.mean(1)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Build within: the same weights each time, on the device, and the outer randomness as before."""
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        yield


def forward_macs(run: Callable[[], object]) -> int:
    """Multiply-adds of one call, all attention taken as plain products, which alone are counted everywhere."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


def adamw(module: nn.Module, fused: bool | None) -> list[torch.optim.Optimizer]:
    """AdamW as it comes (None), or fused."""
    return [torch.optim.AdamW(module.parameters(), lr=RATE, fused=fused)]


def muon(module: nn.Module, fused: bool | None) -> list[torch.optim.Optimizer]:
    """Muon and fused AdamW, as the tiny preset trains."""
    return make_optimisers(module, TrainConfig(steps=1, batch=1, lr=RATE, muon_lr=RATE))


def compile_each(blocks: list[nn.Module]) -> None:
    """Compile blocks in place with static shapes, as our own training does."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    for block in blocks:
        block.compile(dynamic=False)


def trained(
    module: nn.Module,
    loss: Callable[[], Tensor],
    *,
    optimisers: list[torch.optim.Optimizer],
    bf16: bool,
    device: torch.device,
) -> tuple[Callable[[], Tensor], Callable[[], int]]:
    """A step of training: forward, backward, clipped gradient, optimiser; and the bytes held between steps."""
    parameters = list(module.parameters())

    def step() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        module.zero_grad()
        return value.detach()

    def held() -> int:
        states = [value for o in optimisers for state in o.state.values() for value in state.values()]
        return sum(x.numel() * x.element_size() for x in [*parameters, *filter(torch.is_tensor, states)])

    return step, held


def step_contestant(
    name: str,
    build: Callable[[Size], Model],
    size: Size,
    *,
    device: torch.device,
    fast: bool = False,
    compiled: bool = False,
    fused: bool | None = None,
    optimisers: Callable[[nn.Module, bool | None], list] = adamw,
) -> Contestant:
    """A training step on fixed latents; ``fast``: under bf16 autocast."""
    with seeded(0, device):
        model = build(size)
        x_0, text = torch.randn(size.batch, *size.latent), make_text(size, size.batch, device)
        t = torch.full((size.batch,), 0.5)
    generator = torch.Generator(device).manual_seed(0)
    module = model.module
    macs = forward_macs(lambda: model.velocity(module, x_0, t, text))
    if compiled:
        compile_each(model.blocks)

    def loss() -> Tensor:
        return flow_loss(lambda x_t, t: model.velocity(module, x_t, t, text), x_0, generator=generator)

    step, held = trained(module, loss, optimisers=optimisers(module, fused), bf16=fast, device=device)
    return Contestant(
        name,
        step,
        work=size.batch * size.tokens,
        unit="token",
        flops=flops(macs, training=True),
        parameters=count_parameters(module, trained_only=True),
        peak="matmul bf16" if fast else "matmul fp32",
        held=held,
    )


def clip_contestant(
    name: str,
    build: Callable[[Size], Model],
    size: Size,
    *,
    device: torch.device,
    steps: int = 25,
    cfg_scale: float = 3.0,
    fast: bool = False,
    batched: bool = True,
) -> Contestant:
    """One clip's latent, sampled by Euler steps; ``batched``: both halves of the guidance in one pass."""
    with seeded(0, device):
        model = build(size)
        module, noise = model.module.eval(), torch.randn(1, *size.latent)
        text, null_text = make_text(size, 1, device), make_text(size, 1, device)
    passes = 1 if cfg_scale in (0, 1) else 2

    def predict(x_t: Tensor, t: Tensor, text: TextState) -> Tensor:
        return model.velocity(module, x_t, t, text).to(x_t.dtype)

    def in_two_passes(x_t: Tensor, t: Tensor) -> Tensor:
        uncond = predict(x_t, t, null_text)
        return uncond + cfg_scale * (predict(x_t, t, text) - uncond)

    velocity = guided(predict, text=text, null_text=null_text, cfg_scale=cfg_scale) if batched else in_two_passes

    def run() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            return euler(velocity, noise, steps=steps)

    macs = forward_macs(lambda: predict(noise, noise.new_full((1,), 0.5), text))
    return Contestant(
        name,
        run,
        unit="clip",
        flops=flops(macs * passes * steps),
        parameters=count_parameters(module, trained_only=True),
        peak="matmul bf16" if fast else "matmul fp32",
        held=lambda: sum(p.numel() * p.element_size() for p in module.parameters()),
    )


class OnGrid(nn.Module):
    """Sparse attention in the place of full attention, told once what grid it works on."""

    def __init__(self, attention: nn.Module, grid: Grid):
        super().__init__()
        self.attention, self.grid = attention, grid

    def forward(self, x: Tensor, *, rope: tuple[Tensor, Tensor] | None = None) -> Tensor:
        return self.attention(x, grid=self.grid, rope=rope)


def sparse_dit(attention: Callable[[int, int], nn.Module]) -> Callable[[Size], Model]:
    """A ClassDiT whose blocks take this attention, made from width and heads."""

    def build(size: Size) -> Model:
        model = class_dit(size)
        for block in model.blocks:
            block.attention = OnGrid(attention(size.width, size.heads), size.grid)
        return model

    return build


def backward_contestant(name: str, build: Callable[[Size], Model], size: Size, *, device: torch.device) -> Contestant:
    """Forward and backward without the optimiser, whose cost does not depend on the tokens."""
    return step_contestant(name, build, size, device=device, optimisers=lambda module, fused: [])
