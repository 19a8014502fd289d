"""All settings, as frozen dataclasses, and the presets: ``tiny`` for a laptop, ``compact`` for one GPU."""

from dataclasses import dataclass, field, replace
from typing import get_args, get_origin, get_type_hints

from sora_edu.errors import InputError, shown
from sora_edu.shapes import check_divisible, check_frames

KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}


def check_fields(config, **ranges: tuple) -> None:
    """Every field must have its declared type, and every number named here lie in its range, both ends included.

    In a tuple the range holds for each number. Raises InputError: settings also come from files that others wrote.
    """
    for name, kind in get_type_hints(type(config)).items():
        check_value(name, getattr(config, name), kind, ranges.get(name))


def check_value(name: str, value: object, kind, limits: tuple | None = None) -> None:
    """Raise InputError unless ``value`` is of the type ``kind``, and within the limits (low, high) if there are any."""
    wanted, fits = _in_words(kind), _has_type(value, kind)
    if limits is not None:
        low, high = limits
        wanted += f" from {low:,} to {high:,}"
        fits = fits and all(low <= number <= high for number in (value if isinstance(value, tuple) else [value]))
    if not fits:
        raise InputError(f"{name}={shown(value)} must be {wanted}")


def _has_type(value, kind) -> bool:
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, tuple) or (kinds[-1] is not ... and len(value) != len(kinds)):
            return False
        return all(_has_type(item, kinds[0]) for item in value)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind  # not isinstance: True is an int


def _in_words(kind) -> str:
    if get_origin(kind) is not tuple:
        return KINDS.get(kind) or f"a {kind.__name__}"
    first, *more = get_args(kind)
    if get_origin(first) is tuple:
        return f"tuples of {_in_words(first)}"
    return f"{'some' if more[-1] is ... else 1 + len(more)} numbers, each {KINDS[first]}"


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """The toy world: what a clip may show, and the size it is drawn at."""

    frames: int = 17  # frames drawn; they sample the same time at any number
    duration: float = 16.0  # ticks of the world's own time; a longer clip shows more of a motion
    height: int = 32  # pixels
    width: int = 32  # pixels
    pair_fraction: float = 0.0  # share of clips with two objects (side by side, colliding, behind a bar)
    pan_fraction: float = 0.0  # share of clips in which the camera pans

    def __post_init__(self):
        shares = {"pair_fraction": (0, 1), "pan_fraction": (0, 1)}
        check_fields(self, frames=(1, 4096), duration=(1, 64), height=(16, 4096), width=(16, 4096), **shares)
        if self.pair_fraction + self.pan_fraction > 1:
            raise InputError(
                f"pair_fraction={self.pair_fraction}, pan_fraction={self.pan_fraction}: shares must add up to 1 at most"
            )

    @property
    def pixels(self) -> int:
        """Pixels of a clip, all frames."""
        return self.frames * self.height * self.width


def world_or_default(config: WorldConfig | None) -> WorldConfig:
    """The world that was given, or the first lesson's; InputError where it is no WorldConfig."""
    if not isinstance(config, WorldConfig | None):
        raise InputError(f"config={shown(config)} is no world; use WorldConfig(frames=17, height=32, width=32)")
    return config or WorldConfig()


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """The causal video VAE: 1 + ft*k frames become 1 + k latent frames, sides shrink by ``fs``."""

    channels: int = 16  # latent channels
    widths: tuple[int, ...] = (64, 96, 128)  # hidden channels, one level for each halving of time and the start
    enc_blocks: int = 2  # residual blocks a level of the encoder
    dec_blocks: int = 2  # residual blocks a level of the decoder
    ft: int = 4  # compression in time, a power of two
    fs: int = 4  # compression in height and width

    def __post_init__(self):
        blocks = {"enc_blocks": (0, 16), "dec_blocks": (0, 16)}
        check_fields(self, channels=(1, 1024), widths=(1, 8192), ft=(1, 16), fs=(1, 64), **blocks)
        if self.ft != 2 ** (len(self.widths) - 1):
            fits = 2 ** (len(self.widths) - 1)
            raise InputError(f"ft={self.ft} does not fit {len(self.widths)} widths; use {fits}, a halving a level")

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Channels, frames, height and width of a video's latent; InputError names the nearest sizes that fit."""
        return (
            self.channels,
            check_frames(frames, self.ft),
            check_divisible("height", height, self.fs),
            check_divisible("width", width, self.fs),
        )


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The text encoder, trained together with the transformer it steers."""

    width: int = 128  # width of a token
    depth: int = 2  # transformer blocks
    heads: int = 4
    max_tokens: int = 32  # longer prompts are cut, with a warning

    def __post_init__(self):
        check_fields(self, width=(2, 16384), depth=(0, 64), heads=(1, 1024), max_tokens=(1, 4096))
        if self.width % self.heads or self.width // self.heads % 2:
            raise InputError(f"width={self.width} must be an even multiple of heads={self.heads}")


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """The VideoDiT: a diffusion transformer over spacetime patches of the latent."""

    channels: int = 16  # latent channels, as the VAE's
    width: int = 192  # d, width of a token
    depth: int = 6  # blocks
    heads: int = 6
    patch: tuple[int, int, int] = (1, 2, 2)  # pf, ph, pw in latent cells
    mlp_ratio: float = 4.0
    text_width: int = 128  # as the text encoder's
    side: int = 0  # latent cells of the shorter side of the canvas that places are measured on; 0 counts cells on any

    def __post_init__(self):
        sizes = {"width": (6, 16384), "text_width": (1, 16384), "channels": (1, 1024), "patch": (1, 64)}
        sizes |= {"side": (0, 4096)}
        check_fields(self, depth=(0, 64), heads=(1, 1024), mlp_ratio=(0.25, 16), **sizes)
        if self.width % self.heads or self.width // self.heads % 2:
            raise InputError(f"width={self.width} must be an even multiple of heads={self.heads}")
        if self.width // self.heads < 6:
            few = f"width={self.width} leaves {self.width // self.heads} channels to each of {self.heads} heads"
            raise InputError(f"{few}; three axes of rotary positions need 6: use {self.width // 6} heads at most")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One stage of training: AdamW, or Muon and AdamW, with warm-up and a decay to zero."""

    steps: int  # optimiser steps
    batch: int  # clips a step; of another size, as many as hold about as many pixels
    lr: float  # peak learning rate of AdamW
    muon_lr: float = 0.0  # peak rate of Muon for the matrices inside the blocks; 0 leaves them to AdamW
    warmup: int = 200  # steps of linear warm-up
    decay: float = 0.3  # last share of the steps, over which the rate falls linearly to zero
    weight_decay: float = 0.01
    ema: float = 0.999  # decay of the exponential moving average that is kept and sampled
    clip: float = 1.0  # largest gradient norm
    save_every: int = 250  # steps between checkpoints
    log_every: int = 50  # steps between lines of metrics
    image_fraction: float = 0.1  # share of steps that train on single frames

    def __post_init__(self):
        counts = {name: (1, 10**9) for name in ("steps", "batch", "save_every", "log_every")}
        shares = {name: (0, 1) for name in ("decay", "ema", "image_fraction")}
        rates = {"lr": (1e-9, 1), "muon_lr": (0, 1)}
        check_fields(self, **counts, **shares, **rates, warmup=(0, 10**9), weight_decay=(0, 100), clip=(0, 1e9))


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that one command trains."""

    world: WorldConfig
    vae: VAEConfig
    text: TextConfig
    dit: DiTConfig
    vae_train: TrainConfig
    dit_train: TrainConfig
    kl_weight: float = 5e-5  # weight of the KL term, per latent value
    weigh_objects: bool = False  # whether the VAE's loss lets pixels near objects count as much as all the ground
    vae_pairs: float = 0.0  # share of clips with two objects while the VAE learns, where it is more than the world's
    clips: int = 40_000  # clips whose latents are cached for the transformer
    pool: int = 0  # the VAE learns from so many of these clips, kept on the device; 0 draws new ones at every step
    half: bool = False  # whether the weights to sample from are written in bf16, in half the bytes
    orbit_weight: float = 3.0  # how often an object orbits, against 1 for any other motion: the hardest to learn
    caption_dropout: float = 0.1  # share of captions replaced by the empty one, for guidance
    known_frames: float = 0.0  # share of training clips of which some latent frames are given, to animate and extend
    other_sizes: tuple[tuple[int, int, int], ...] = ()  # frames, height and width of other clips to train on
    other_share: float = 0.0  # share of steps that train on them, on each size as often
    times: str = "logit-normal"  # how diffusion times are drawn in training, or "uniform"
    shift: float = 2.0  # how far diffusion times lean towards noise, in training and sampling: motion is decided there
    steps: int = 25  # sampling steps where a call names none
    cfg_scale: float = 3.0  # guidance where a call names none; 1 is none
    description: str = field(default="", compare=False)

    def __post_init__(self):
        counts = {"clips": (1, 10**9), "pool": (0, 10**9), "steps": (1, 10**4)}
        weights = {
            "kl_weight": (0, 100),
            "orbit_weight": (0, 100),
            "caption_dropout": (0, 1),
            "vae_pairs": (0, 1),
            "known_frames": (0, 1),
        }
        check_fields(self, **counts, **weights, shift=(0.01, 100), cfg_scale=(0, 100), other_share=(0, 1))
        if self.times not in ("logit-normal", "uniform"):
            raise InputError(f"times={shown(self.times)} are not drawn; use 'logit-normal' or 'uniform'")
        _, ph, pw = self.dit.patch
        own = (self.world.frames, self.world.height, self.world.width)
        for frames, height, width in (own, *self.other_sizes):
            self.vae.latent_shape(frames, height, width)
            check_divisible("height", height, self.vae.fs * ph)
            check_divisible("width", width, self.vae.fs * pw)
        if self.other_share and not self.other_sizes:
            raise InputError(f"other_share={self.other_share} of no other_sizes; give some, such as (33, 32, 32)")
        if self.dit.channels != self.vae.channels:
            raise InputError(f"channels={self.dit.channels} of the transformer must be the VAE's {self.vae.channels}")
        if self.dit.text_width != self.text.width:
            raise InputError(f"text_width={self.dit.text_width} must be the text encoder's width={self.text.width}")

    @property
    def worlds(self) -> list[WorldConfig]:
        """The world that is trained on, at its own size and at each of the others."""
        return [self.world, *(self.world_at(*size) for size in self.other_sizes)]

    def world_at(self, frames: int, height: int, width: int) -> WorldConfig:
        """The world filmed in another size at the same rate: twice the frames after the first last twice as long."""
        world, sides = self.world, {"height": height, "width": width}
        if min(frames, world.frames) == 1:  # a picture lasts no time
            return replace(world, frames=frames, **sides)
        return replace(world, frames=frames, duration=world.duration * (frames - 1) / (world.frames - 1), **sides)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Channels, frames, height and width of the latent of a clip of this preset's world."""
        return self.vae.latent_shape(self.world.frames, self.world.height, self.world.width)


# sora-edu train --preset tiny --out runs/mine: 37 minutes on two cores (14 VAE, 2 latents, 21 transformer);
# VAE 33.2 dB; shape, colour and motion right in 93 % of trained and 91 % of held-out combinations (n = 512).
TINY = Preset(
    world=WorldConfig(pair_fraction=0.2),
    vae=VAEConfig(),
    text=TextConfig(),
    dit=DiTConfig(),
    vae_train=TrainConfig(steps=6000, batch=8, lr=8e-4, ema=0.998, decay=0.4),
    dit_train=TrainConfig(steps=3000, batch=64, lr=1e-3, muon_lr=3e-3, ema=0.998, decay=0.4),
    clips=24_000,
    description="17x32x32, one object or two, for a laptop",
)

# sora-edu train --preset tiny-sizes --out runs/sizes: half of the steps on other sizes, frames given in two of five
# clips, and a VAE whose loss sees small objects. What it reaches: README, "Six sizes".
TINY_SIZES = replace(
    TINY,
    world=WorldConfig(pair_fraction=0.3),
    dit=DiTConfig(side=8),
    vae_train=replace(TINY.vae_train, steps=8000, muon_lr=3e-3, decay=0.5),
    dit_train=replace(TINY.dit_train, steps=7000),
    weigh_objects=True,
    vae_pairs=0.5,
    known_frames=0.4,
    other_sizes=((17, 24, 40), (17, 40, 24), (17, 48, 48), (33, 32, 32), (9, 32, 32)),
    other_share=0.5,
    description="17x32x32 and five other sizes, one object or two, frames given or not",
)

# Shipped: sora-edu train --preset compact --vae-steps 5000 --dit-steps 1000, five minutes of one H100 beside another
# training. What it reaches: README, "On a GPU". More steps were not tried.
COMPACT = Preset(
    world=WorldConfig(height=64, width=64, pair_fraction=0.3, pan_fraction=0.15),
    vae=VAEConfig(widths=(96, 128, 192), fs=8),
    text=TextConfig(),
    dit=DiTConfig(width=384, depth=8, heads=6, patch=(1, 1, 1)),
    vae_train=TrainConfig(steps=5000, batch=64, lr=1e-3, muon_lr=3e-3, ema=0.998, decay=0.5, save_every=2000),
    dit_train=TrainConfig(steps=4000, batch=256, lr=1e-3, muon_lr=3e-3, ema=0.999, decay=0.4, save_every=2000),
    clips=100_000,
    pool=20_000,
    half=True,
    weigh_objects=True,
    vae_pairs=0.5,
    known_frames=0.3,
    description="17x64x64, the whole world, for one GPU",
)

PRESETS = {"tiny": TINY, "tiny-sizes": TINY_SIZES, "compact": COMPACT}
