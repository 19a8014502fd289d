"""Every public function that takes tensors refuses wrong ones by name: ranks, sizes, types, empty axes, no tensors.

The functions are found, not listed: a new one needs ``@checked`` and a line of RECIPES, or these tests fail.
"""

import copy
import dataclasses
import importlib
import inspect
import pkgutil
import tempfile
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from jaxtyping import AbstractArray
from torch import Tensor

import sora_edu
from sora_edu import pipeline
from sora_edu.checked import checks_of
from sora_edu.config import PRESETS, DiTConfig, TextConfig, VAEConfig, WorldConfig
from sora_edu.course import toy2d as points
from sora_edu.diffusion import flow, noising
from sora_edu.errors import SoraError
from sora_edu.model import attention, dit, image_dit, patches, spacetime, sparse, text as text_module, tokenizer, vae
from sora_edu.model.image_dit import ImageDiTConfig
from sora_edu.model.text import TextState
from sora_edu.world import captions, render, scenes
from sora_edu.world.tracker import track

OUTSIDE = (
    "bench",
    "lessons",
    "course",
    "plotting",
    "widgets",
    "grading",
    "claims",
    "checked",
    "checked_messages",
)  # no doors of the library
INSIDE = ("points", "toy2d")  # the two-dimensional mixtures are maths, wherever they lie
EXCEPT = {  # public functions without @checked, and why
    "is_sharded": "the trainer's plumbing, for every tensor there is",
    "full": "the trainer's plumbing, for every tensor there is",
    "local": "the trainer's plumbing, for every tensor there is",
    "sharded_like": "the trainer's plumbing, for every tensor there is",
    "zero_where": "the trainer's plumbing, for every tensor there is",
}


# --- what there is ---------------------------------------------------------------------------------------------------


def members(module: types.ModuleType) -> Iterator[tuple[str, Callable]]:
    """The public functions of a module and the public methods of its public classes, as they were written."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        if not isinstance(value, type):
            yield name, value
            continue
        for inner, method in vars(value).items():
            if not inner.startswith("_") or (inner == "__call__" and not inner.startswith("__init")):
                method = getattr(method, "fget", None) or getattr(method, "__func__", method)
                yield f"{name}.{inner}", method


@cache
def doors() -> dict[str, Callable]:
    """Every public function of the library whose signature holds tensors, or functions of tensors."""
    found = {}
    for info in pkgutil.walk_packages(sora_edu.__path__, "sora_edu."):
        parts = info.name.split(".")
        if info.ispkg or (any(part in OUTSIDE for part in parts) and parts[-1] not in INSIDE):
            continue
        for name, member in members(importlib.import_module(info.name)):
            if inspect.isfunction(member) and any(checks_of(member)):
                assert name not in found, f"two doors are called {name}"
                found[name] = member
    return found


def test_every_public_function_of_tensors_is_checked():
    bare = [name for name, fn in doors().items() if not hasattr(fn, "is_checked") and name not in EXCEPT]
    assert not bare, f"put @checked of sora_edu.checked above {', '.join(bare)}"


def test_every_exception_is_still_one():
    assert not {name for name in EXCEPT if name not in doors() or hasattr(doors()[name], "is_checked")}


# --- how each is called rightly --------------------------------------------------------------------------------------

G = torch.Generator().manual_seed(0)
VAE_CONFIG = VAEConfig(channels=4, widths=(8, 8), enc_blocks=1, dec_blocks=1, ft=2, fs=4)
TEXT_CONFIG = TextConfig(width=8, depth=1, heads=2, max_tokens=6)
DIT_CONFIG = DiTConfig(channels=4, width=24, depth=1, heads=2, patch=(1, 2, 2), text_width=8)
IMAGE_CONFIG = ImageDiTConfig(depth=1, width=16, heads=2, size=(4, 6), classes=5)
WORLD = WorldConfig(frames=5, height=16, width=24, pair_fraction=0.5, pan_fraction=0.5)
GRID, N = (3, 2, 4), 24


def rand(*shape: int) -> Tensor:
    """Numbers in [0, 1), the same in every run."""
    return torch.rand(*shape, generator=G)


def true(*shape: int) -> Tensor:
    """A mask that hides nothing."""
    return torch.ones(*shape, dtype=torch.bool)


def whole(*shape: int, below: int = 4) -> Tensor:
    """Whole numbers from 1."""
    return torch.randint(1, below, shape, generator=G)


def same(x: Tensor, *_) -> Tensor:
    """A model that answers with what it is asked."""
    return x


@cache
def state():
    """Clips of the toy world."""
    return scenes.sample_state(3, WORLD, generator=G)


@cache
def clips() -> Tensor:
    """Their pictures."""
    return render.render(state(), WORLD)


@cache
def tracked():
    """What the tracker reads in them."""
    return track.track(clips())


@cache
def pipe() -> pipeline.Pipeline:
    """A small pipeline with fresh weights."""
    words = tokenizer.Tokenizer()
    preset = dataclasses.replace(
        next(iter(PRESETS.values())), world=WORLD, vae=VAE_CONFIG, text=TEXT_CONFIG, dit=DIT_CONFIG
    )
    model = dit.TextToVideo(DIT_CONFIG, TEXT_CONFIG, len(words))
    return pipeline.Pipeline(preset, vae.VideoVAE(VAE_CONFIG), model, words)


def text() -> TextState:
    """Encoded captions of two clips."""
    return TextState(rand(2, 5, 8), true(2, 5), rand(2, 8))


def rope(n: int = N, head: int = 6) -> tuple[Tensor, Tensor]:
    """Angles for n tokens."""
    return rand(n, head // 2), rand(n, head // 2)


X, Y, T = rand(2, 3, 4), rand(2, 3, 4), rand(2)
VIDEO, LATENT, SCHEDULE = rand(2, 3, 3, 8, 12), rand(2, 4, 3, 4, 4), noising.alpha_bars(noising.linear_betas(9))
TOKENS = rand(2, N, 24)
PAIR = {"x_0": X, "eps": Y, "t": T}
STEP = {"x_t": X, "velocity": Y, "t": T}
RATES = {"path": rand(2, 5, 2), "low": rand(2, 2), "high": rand(2, 2), "region": rand(2, 4), "u": rand(2, 2)}
TICKS, U7, REGION = torch.arange(5.0), rand(2, 7), rand(2, 4)
CENTRE, RADIUS, SEEN = rand(2, 5, 2) * 20, rand(2, 5) + 3, true(2, 5)
ALPHA = rand(2, 5, 16, 24)
MIXTURE = points.ring()

# name of the door -> the object it belongs to, where it is a method, and arguments that fit
RECIPES = {
    "attend": lambda: {"q": rand(2, 2, 5, 6), "k": rand(2, 2, 7, 6), "v": rand(2, 2, 7, 6), "mask": true(2, 2, 5, 7)},
    "apply_rotary": lambda: {"q": rand(2, 2, N, 6), "k": rand(2, 2, N, 6), "rope": rope()},
    "SelfAttention.forward": lambda: (
        attention.SelfAttention(24, 4),
        {"x": TOKENS, "rope": rope(), "mask": true(2, 1, N, N)},
    ),
    "CrossAttention.forward": lambda: (
        attention.CrossAttention(24, 4, 8),
        {"x": TOKENS, "context": rand(2, 5, 8), "mask": true(2, 5)},
    ),
    "FactorisedAttention.forward": lambda: (attention.FactorisedAttention(24, 4), {"x": TOKENS, "grid": GRID}),
    "described": lambda: {"state": state()},
    "caption": lambda: {"state": state()},
    "record_walk": lambda: {"velocity_fn": same, "noise": X, "strides": 2, "steps": 4, "shift": 1.0},
    "stride_loss": lambda: {"velocity_fn": same, "walk": rand(2, 3, 4, 4), "shift": 1.0},
    "timestep_embedding": lambda: {"t": T, "d": 8},
    "modulate": lambda: {"x": TOKENS, "shift": rand(2, 1, 24), "scale": rand(2, 1, 24)},
    "VideoDiTBlock.forward": lambda: (
        dit.VideoDiTBlock(DIT_CONFIG),
        {"x": TOKENS.unflatten(1, (3, -1)), "modulation": rand(2, 3, 6, 24), "text": text(), "rope": rope(head=12)},
    ),
    "VideoDiT.grid": lambda: (dit.VideoDiT(DIT_CONFIG), {"x_t": LATENT}),
    "VideoDiT.forward": lambda: (dit.VideoDiT(DIT_CONFIG), {"x_t": LATENT, "t": T, "text": text()}),
    "TextToVideo.forward": lambda: (
        dit.TextToVideo(DIT_CONFIG, TEXT_CONFIG, 9),
        {"x_t": LATENT, "t": T, "ids": whole(2, 6), "mask": true(2, 6)},
    ),
    "mean_interval": lambda: {"values": T},
    "median_interval": lambda: {"values": T},
    "seam_ratio": lambda: {"video": VIDEO},
    "animated": lambda: {
        **{"pipeline": pipe(), "prompts": ["a red circle falls", "a ring"], "first": rand(2, 3, 1, 16, 16)},
        **{"frames": 5, "size": (16, 16), "seed": 0, "steps": 1},
    },
    "compare": lambda: {"said": captions.described(state())[0], "tracked": tracked(), "i": 0},
    "shares_right": lambda: {"said": captions.described(state()), "tracked": tracked()},
    "times_of_frames": lambda: {"t": T, "known": true(2, 3)},
    "keep_known": lambda: {"velocity_fn": same, "x_0": LATENT, "known": true(2, LATENT.shape[2])},
    "sampler_from": lambda: {"x_0": LATENT, "known": true(2, LATENT.shape[2])},
    "over_batch": lambda: {"t": T, "x": X},
    "linear": lambda: {"t": T},
    "gvp": lambda: {"t": T},
    "interpolate": lambda: PAIR,
    "velocity_target": lambda: PAIR,
    "x_0_from_velocity": lambda: STEP,
    "eps_from_velocity": lambda: STEP,
    "velocity_from_x_0": lambda: {"x_t": X, "x_0": Y, "t": T},
    "velocity_from_eps": lambda: {"x_t": X, "eps": Y, "t": T},
    "score_from_velocity": lambda: STEP,
    "shift_times": lambda: {"t": T, "shift": 2.0},
    "flow_loss": lambda: {"model_fn": same, "x_0": X, "t": T, "eps": Y},
    "flip_time": lambda: {"velocity_fn": same},
    "line_times": lambda: {"alpha_bar": SCHEDULE},
    "velocity_fn_from_eps_fn": lambda: {"eps_fn": same, "alpha_bar": SCHEDULE},
    "null_like": lambda: {"text": text(), "null_text": text()},
    "stack_text": lambda: {"text": text(), "null_text": text()},
    "guided": lambda: {"velocity_fn_with_text": same, "text": text(), "null_text": text(), "cfg_scale": 2.0},
    "TimeEmbed.forward": lambda: (image_dit.TimeEmbed(16), {"t": T}),
    "drop_labels": lambda: {"labels": whole(2), "null": 5, "rate": 0.5, "generator": G},
    "LabelEmbed.forward": lambda: (image_dit.LabelEmbed(5, 16), {"labels": whole(2)}),
    "PlainAttention.forward": lambda: (image_dit.PlainAttention(24, 2), {"x": TOKENS}),
    "DiTBlock.forward": lambda: (image_dit.DiTBlock(24, 2), {"x": TOKENS, "c": rand(2, 24)}),
    "FinalLayer.forward": lambda: (image_dit.FinalLayer(24, 8), {"x": TOKENS, "c": rand(2, 24)}),
    "ImageDiT.forward": lambda: (
        image_dit.ImageDiT(IMAGE_CONFIG),
        {"x_t": rand(2, 4, 4, 6), "t": T, "labels": whole(2)},
    ),
    "fit_to_patches": lambda: {"video": VIDEO, "unit": 4, "max_side": 8},
    "fit_video": lambda: {"video": VIDEO, "size": (8, 8)},
    "pick_frames": lambda: {"video": VIDEO, "frames": 1, "stride": 2},
    "crop_to_aspect": lambda: {"video": VIDEO, "size": (8, 8)},
    "resize": lambda: {"video": VIDEO, "size": (4, 6)},
    "side_by_side": lambda: {"a": VIDEO, "b": VIDEO},
    "to_uint8": lambda: {"x": VIDEO},
    "save_clip": lambda: {"video": VIDEO[0], "path": "/dev/null/clip.png"},
    "least_squares": lambda: {"design": rand(3, 5, 2), "target": rand(2, 5), "weight": rand(2, 5)},
    "growth": lambda: {"radius": RADIUS, "visible": SEEN},
    "fit_motion": lambda: {"centre": CENTRE, "radius": RADIUS, "visible": SEEN},
    "fit_collision": lambda: {"centre": rand(3, 2, 5, 2) * 20, "visible": true(3, 2, 5)},
    "alpha_bars": lambda: {"betas": SCHEDULE},
    "snr": lambda: {"alpha_bar": SCHEDULE},
    "at_step": lambda: {"schedule": SCHEDULE, "s": whole(2), "x": X},
    "q_step": lambda: {"x_prev": X, "s": whole(2), "eps": Y, "betas": SCHEDULE},
    "q_sample": lambda: {"x_0": X, "s": whole(2), "eps": Y, "alpha_bar": SCHEDULE},
    "x_0_from_eps": lambda: {"x_s": X, "eps": Y, "s": whole(2), "alpha_bar": SCHEDULE},
    "eps_from_x_0": lambda: {"x_s": X, "x_0": Y, "s": whole(2), "alpha_bar": SCHEDULE},
    "measure": lambda: {"alpha": ALPHA},
    "draw": lambda: {"shape": "star", "centre": CENTRE, "radius": RADIUS, "h": 16, "w": 24},
    "read_shape": lambda: {"alpha": ALPHA, "centre": CENTRE, "area": rand(2, 5) + 9},
    "read_size": lambda: {"start": rand(2) + 3},
    "behind_bar": lambda: {
        "alpha": ALPHA,
        "columns": ~true(2, 24),
        "shape": whole(2),
        "y": rand(2) * 16,
        "radius": rand(2) + 3,
    },
    "check_axes": lambda: {"x": X, "axes": "b c h"},
    "patchify": lambda: {"images": VIDEO[:, :, 0], "ph": 2, "pw": 3},
    "unpatchify": lambda: {"tokens": rand(2, 12, 12), "grid": (3, 4), "ph": 2, "pw": 2},
    "sliding_patches": lambda: {"images": VIDEO[:, :, 0], "patch": 4, "stride": 2},
    "PatchEmbed.forward": lambda: (patches.PatchEmbed(3, 8, ph=2, pw=2), {"images": VIDEO[:, :, 0]}),
    "bounce": lambda: {"ticks": TICKS, "drop": rand(2, 1), "hit": rand(2, 1) + 1, "rebound": rand(2, 1)},
    "relative_paths": lambda: {"u": rand(2, 4), "room": rand(2, 2) + 9, "ticks": TICKS},
    "place": lambda: {**RATES, "on_floor": true(2)},
    "move_alone": lambda: {
        **{"shape": whole(2), "motion": whole(2), "size": whole(2, below=3), "region": REGION},
        **{"pan": T, "ticks": TICKS, "u": U7},
    },
    "collide": lambda: {"shape": whole(2, 2), "u": U7, "region": REGION, "ticks": TICKS},
    "pass_behind": lambda: {"shape": whole(2), "motion": whole(2), "u": U7, "region": REGION, "ticks": TICKS},
    "Pipeline.velocity": lambda: (pipe(), {"x_t": LATENT, "t": T, "text": text()}),
    "Pipeline.reconstruct": lambda: (pipe(), {"video": VIDEO}),
    "saved_bytes": lambda: {"run": lambda: X.clone().requires_grad_().square().sum(), "module": torch.nn.Linear(1, 1)},
    "Mixture.predict": lambda: (MIXTURE, {"x": rand(4, 2), "alpha": rand(4), "sigma": rand(4)}),
    "Mixture.velocity": lambda: (MIXTURE, {"x_t": rand(4, 2), "t": rand(4)}),
    "Mixture.eps": lambda: (MIXTURE, {"x_s": rand(4, 2), "s": whole(4), "alpha_bar": SCHEDULE}),
    "PointNet.forward": lambda: (points.PointNet(8), {"x_t": rand(4, 2), "t": rand(4)}),
    "fit": lambda: {
        "net": points.PointNet(8),
        "loss_fn": lambda net, x, generator: net(x, x[:, 0]).square().mean(),
        "data": MIXTURE,
        "steps": 3,
        "batch": 4,
    },
    "energy_distance": lambda: {"a": rand(4, 2), "b": rand(5, 2)},
    "sincos_1d": lambda: {"position": rand(5), "d": 8},
    "apply_rope": lambda: {"x": rand(2, 2, N, 6), "cos": rope()[0], "sin": rope()[1]},
    "caption_ids": lambda: {
        **{"state": scenes.sample_state(2, WORLD), "preset": pipe().preset, "tokenizer": tokenizer.Tokenizer()},
        **{"generator": torch.Generator()},
    },
    "captioned_losses": lambda: {"preset": pipe().preset, "latents": LATENT, "ids": whole(2, 2, 6)},
    "half_plane": lambda: {"x": rand(2, 1, 1, 4), "y": rand(2, 1, 3, 1), "angle": 1.0, "distance": rand(2, 1, 1, 1)},
    "coverage": lambda: {"shape": "star", "x": rand(2, 5, 1, 4), "y": rand(2, 5, 3, 1), "r": rand(2, 5, 1, 1)},
    "draw_ground": lambda: {"state": state(), "config": WORLD},
    "draw_objects": lambda: {
        "video": rand(3, 3, 5, 16, 24),
        "state": state(),
        "ground": render.draw_ground(state(), WORLD),
    },
    "draw_bars": lambda: {"video": rand(3, 3, 5, 16, 24), "state": state()},
    "render": lambda: {"state": state(), "config": WORLD},
    "euler": lambda: {"velocity_fn": same, "noise": X, "steps": 2},
    "heun": lambda: {"velocity_fn": same, "noise": X, "steps": 2},
    "sde": lambda: {"velocity_fn": same, "noise": X, "steps": 2},
    "alpha_bar_by_step": lambda: {"alpha_bar": SCHEDULE},
    "ddpm": lambda: {"eps_fn": same, "noise": X, "alpha_bar": SCHEDULE, "steps": 2},
    "ddim": lambda: {"eps_fn": same, "noise": X, "alpha_bar": SCHEDULE, "steps": 2},
    "segment": lambda: {"video": clips(), "objects": 2},
    "read_ground": lambda: {"video": clips()},
    "read_bar": lambda: {"video": clips()},
    "read_pan": lambda: {"difference": clips(), "clear": true(3, 5, 16, 24), "unit": 0.5},
    "name_colours": lambda: {"difference": clips(), "core": true(3, 5, 16, 24), "ground": rand(3, 3), "objects": 2},
    "unmix": lambda: {"difference": clips(), "paint": rand(3, 2, 3)},
    "uniform_frames": lambda: {"video": VIDEO, "count": 2},
    "flat_frame_tokens": lambda: {"video": VIDEO, "count": 2, "ph": 2, "pw": 2},
    "patchify_video": lambda: {"video": VIDEO, "pf": 3, "ph": 2, "pw": 2},
    "unpatchify_video": lambda: {"tokens": rand(2, 8, 12), "grid": (1, 2, 4), "pf": 1, "ph": 2, "pw": 2},
    "sliding_tubelets": lambda: {"video": VIDEO, "patch": (1, 4, 4), "stride": (1, 2, 2)},
    "TubeletEmbed.forward": lambda: (spacetime.TubeletEmbed(3, 8, pf=1, ph=2, pw=2), {"video": VIDEO}),
    "cut_windows": lambda: {"x": TOKENS, "grid": GRID, "window": (3, 1, 2)},
    "join_windows": lambda: {"groups": rand(8, 6, 3), "grid": GRID, "window": (3, 1, 2)},
    "cut_strides": lambda: {"x": TOKENS, "grid": GRID, "stride": (3, 1, 2)},
    "join_strides": lambda: {"groups": rand(12, 4, 3), "grid": GRID, "stride": (3, 1, 2)},
    "WindowAttention.forward": lambda: (
        sparse.WindowAttention(24, 4, window=(3, 1, 2)),
        {"x": TOKENS, "grid": GRID, "rope": rope()},
    ),
    "StridedAttention.forward": lambda: (
        sparse.StridedAttention(24, 4, stride=(3, 1, 2)),
        {"x": TOKENS, "grid": GRID, "rope": rope()},
    ),
    "TextBlock.forward": lambda: (
        text_module.TextBlock(24, 4),
        {"x": TOKENS, "rope": rope(), "mask": true(2, 1, 1, N)},
    ),
    "TextEncoder.forward": lambda: (
        text_module.TextEncoder(TEXT_CONFIG, 9),
        {"ids": whole(2, 6), "mask": true(2, 6)},
    ),
    "Tokenizer.decode": lambda: (tokenizer.Tokenizer(), {"ids": whole(2, 6)}),
    "track": lambda: {"video": clips()},
    "velocity_error": lambda: {"tracked": tracked()},
    "describe": lambda: {"tracked": tracked(), "i": 0},
    "RMSNorm.forward": lambda: (vae.RMSNorm(3), {"x": VIDEO}),
    "CausalConv.forward": lambda: (vae.CausalConv(3, 4), {"x": VIDEO}),
    "ResBlock.forward": lambda: (vae.ResBlock(3), {"x": VIDEO}),
    "TimeUp.forward": lambda: (vae.TimeUp(3, 4), {"x": VIDEO}),
    "Encoder.forward": lambda: (vae.Encoder(VAE_CONFIG), {"video": VIDEO}),
    "Decoder.forward": lambda: (vae.Decoder(VAE_CONFIG), {"z": LATENT}),
    "VideoVAE.encode": lambda: (vae.VideoVAE(VAE_CONFIG), {"video": VIDEO}),
    "VideoVAE.decode": lambda: (vae.VideoVAE(VAE_CONFIG), {"z": LATENT}),
    "VideoVAE.fit_scale": lambda: (vae.VideoVAE(VAE_CONFIG), {"latents": LATENT}),
    "kl_divergence": lambda: {"mean": LATENT, "logvar": LATENT},
    "vae_losses": lambda: {"preset": pipe().preset, "draw": lambda generator: VIDEO},
    "watch_vae": lambda: {"held_out": VIDEO, "out": Path(tempfile.gettempdir()), "device": torch.device("cpu")},
    "save_strips": lambda: {"video": VIDEO, "path": Path(tempfile.mkdtemp()) / "strips"},
    "strongest": lambda: {
        "difference": clips(),
        "along": rand(3, 8, 5, 16, 24),
        "label": whole(3, 5, 16, 24),
        "colour": whole(3),
    },
    "object_weights": lambda: {"video": VIDEO},
    "orthogonalised": lambda: {"matrices": torch.ones(2, 3, 4), "coefficients": (3.4, -4.8, 2.0)},
    "vae_loss": lambda: {
        "vae": vae.VideoVAE(VAE_CONFIG),
        "video": VIDEO,
        "kl_weight": 1.0,
        "noise": rand(2, 4, 2, 2, 3),
    },
    "psnr": lambda: {"video": VIDEO, "reference": VIDEO},
    "cat_states": lambda: {"states": [state(), state()]},
    "check_state": lambda: {"state": state()},
}


NOT_CALLED = {"train_dit": "it trains; it hands its tensors to captioned_losses first"}


def bound(name: str) -> tuple[Callable, dict]:
    """The door, with its object where it is a method, and arguments that fit."""
    recipe = RECIPES[name]()
    owner, arguments = recipe if isinstance(recipe, tuple) else (None, recipe)
    return (doors()[name] if owner is None else getattr(owner, name.split(".")[1])), arguments


def test_every_door_has_a_recipe_and_every_recipe_a_door():
    missing = [name for name in doors() if name not in {**RECIPES, **EXCEPT, **NOT_CALLED}]
    assert not missing, f"add to RECIPES in {__file__} arguments that fit {', '.join(missing)}"
    assert not set(RECIPES) - set(doors()), "recipes of functions that are gone"


@pytest.mark.parametrize("name", RECIPES)
def test_arguments_that_fit_are_taken(name):
    door, arguments = bound(name)
    try:
        door(**arguments)
    except SoraError as error:
        assert name == "save_clip", error  # it has nowhere to write to


# --- how each is called wrongly --------------------------------------------------------------------------------------


def leaves(hint: object, value: object, path: tuple = ()) -> Iterator[tuple[tuple, object, Tensor]]:
    """(path, annotation, tensor) of every tensor in an argument; the path leads through tuples, lists and records."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, Tensor):
        arrays = [h for h in (inner if kind in (typing.Union, types.UnionType) else (hint,)) if is_array(h)]
        yield path, arrays[0] if arrays else Tensor, value
    elif kind in (typing.Union, types.UnionType):
        fits = [h for h in inner if isinstance(h, type) and not is_array(h) and isinstance(value, h)]
        yield from leaves((fits or [h for h in inner if typing.get_origin(h) is tuple] or [None])[0], value, path)
    elif kind in (tuple, list, Sequence):
        hints = inner if len(inner) == len(value) and ... not in inner else [inner[0]] * len(value)
        for i, (part, each) in enumerate(zip(value, hints, strict=True)):
            yield from leaves(each, part, (*path, i))
    elif isinstance(hint, type) and (dataclasses.is_dataclass(hint) or hasattr(hint, "_fields")):
        for name, each in hint.__annotations__.items():
            yield from leaves(each, getattr(value, name), (*path, name))


def is_array(hint: object) -> bool:
    """Whether an annotation is one tensor with its axes."""
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def put(value: object, path: tuple, new: object) -> object:
    """The same argument with one of its tensors replaced."""
    if not path:
        return new
    step, *rest = path
    if isinstance(step, str):
        part = put(getattr(value, step), rest, new)
        if isinstance(value, tuple):
            return value._replace(**{step: part})
        changed = copy.copy(value)  # not by its constructor, which the tests' own shape checks guard
        object.__setattr__(changed, step, part)
        return changed
    changed = [put(part, rest, new) if i == step else part for i, part in enumerate(value)]
    return changed if isinstance(value, list) else tuple(changed)


def resized(x: Tensor, axis: int, size: int) -> Tensor:
    """The tensor with one axis cut, or filled up with its first slices."""
    return x.index_select(axis, torch.arange(size) % max(1, x.shape[axis]))


def wrong(hint: object, x: Tensor, shared: Counter, optional: bool) -> Iterator[tuple[str, object]]:
    """(what is wrong, value) of everything that does not fit an annotation."""
    yield "numpy", x.numpy()
    yield "list", x.tolist()
    if not optional:
        yield "None", None
    if hint is Tensor:
        return
    kinds = {"float": x.float(), "int": x.long(), "bool": x.bool(), "complex": x.to(torch.complex64)}
    right = {"Float": "float", "Int": "int", "Bool": "bool"}.get(hint.dtype.__name__)
    yield from ((f"type {kind}", value) for kind, value in kinds.items() if right and kind != right)
    words = hint.dim_str.split()
    spread = next((i for i, word in enumerate(words) if word[0] in "*."), None)
    if spread is None:
        yield "rank + 1", x[None]
        yield "rank - 1", x[0] if x.ndim else x[None, None]
    elif len(words) > 1:
        yield "rank too low", x.flatten()[0]
    elif words[0] in shared and shared[words[0]] > 1:
        yield "rank + 1", x[None]
    for i, word in enumerate(words):
        axis = i if spread is None or i < spread else i - len(words) + x.ndim if i > spread else x.ndim - 1
        if word in ("_", "...") or word.startswith("*#"):
            continue
        yield f"empty {word}", resized(x, axis, 0)
        if shared[word] > 1 or not word.lstrip("*").isidentifier():
            yield f"larger {word}", resized(x, axis, x.shape[axis] + 1)
            if x.shape[axis] > 1 and "#" not in word:
                yield f"{word} of 1", resized(x, axis, 1)


def calls(name: str) -> Iterator[tuple[str, Callable, dict]]:
    """(what is wrong, door, arguments) of every wrong call."""
    door, arguments = bound(name)
    hints = {key: p.annotation for key, p in inspect.signature(doors()[name]).parameters.items() if key in arguments}
    found = [(key, *leaf) for key, hint in hints.items() for leaf in leaves(hint, arguments[key])]
    shared = Counter(
        word.split("=")[-1].lstrip("#") for *_, h, _ in found if h is not Tensor for word in h.dim_str.split()
    )
    for key, path, hint, x in found:
        optional = types.NoneType in typing.get_args(hints[key]) and not path
        others = [h for h in typing.get_args(hints[key]) if is_array(h) and h is not hint]
        for fault, value in wrong(hint, x, shared, optional):
            if any(fault.startswith("rank") and value.ndim == len(other.dim_str.split()) for other in others):
                continue  # it fits the other
            label = f"{name}: {'.'.join(map(str, (key, *path)))}: {fault}"
            yield label, door, {**arguments, key: put(arguments[key], path, value)}
    for key, value in arguments.items():
        if value is same and key in ("model_fn", "velocity_fn", "eps_fn"):
            for fault, model in MODELS.items():
                yield f"{name}: {key}: returns {fault}", door, {**arguments, key: model}


MODELS = {
    "one channel": lambda x, *_: x[:, :1],
    "a number": lambda x, *_: x.mean(),
    "a tuple": lambda x, *_: (x, x),
    "nothing": lambda x, *_: None,
    "another type": lambda x, *_: x.long(),
}
TAKES_EMPTY = {  # doors with @checked(empty=True), which draw or move nothing where there is none, or say so themselves
    *("Tokenizer.decode", "bounce", "collide", "coverage", "draw", "draw_objects", "energy_distance", "half_plane"),
    *("move_alone", "pass_behind", "place", "relative_paths"),
}


def outcome(name: str, door: Callable, arguments: dict) -> str:
    """typed, silent, or the error of another library."""
    try:
        result = door(**arguments)
        if name in ("flip_time", "velocity_fn_from_eps_fn"):  # they give back a function
            result(X, T)
        if name == "keep_known":
            result(LATENT, T)
    except SoraError:
        return "typed"
    except Exception as error:
        return f"raw {type(error).__name__}"
    return "silent"


def test_wrong_tensors_are_refused_by_name():
    counts, left = Counter(), []
    for name in RECIPES:
        for label, door, arguments in calls(name):
            if ": empty" in label and name in TAKES_EMPTY:
                continue
            found = outcome(name, door, arguments)
            counts[found.split()[0]] += 1
            left += [] if found == "typed" else [f"{found}: {label}"]
    print(dict(counts))
    assert counts["typed"] > 5000 and not left, "\n".join(left)


def test_nan_passes_through_or_is_refused_and_breaks_nothing():
    """Types and sizes are checked, values are not: NaN goes in and comes out, unless a function says otherwise."""
    counts, left = Counter(), []
    for name in RECIPES:
        door, arguments = bound(name)
        hints = {
            key: p.annotation for key, p in inspect.signature(doors()[name]).parameters.items() if key in arguments
        }
        for key, hint in hints.items():
            for path, _, x in leaves(hint, arguments[key]):
                if x.is_floating_point():
                    found = outcome(name, door, {**arguments, key: put(arguments[key], path, x * torch.nan)})
                    counts[found.split()[0]] += 1
                    left += [f"{found}: {name}: {key}"] if found.startswith("raw") else []
    print(dict(counts))
    assert not left, "\n".join(left)


def test_without_the_check_a_wrong_call_is_taken_or_breaks_inside():
    arguments = {"x_0": X, "eps": Y[:1], "t": T}
    assert outcome("interpolate", flow.interpolate, arguments) == "typed"
    assert outcome("interpolate", flow.interpolate.__wrapped__, arguments) != "typed"
    assert not hasattr(flow.interpolate.__wrapped__, "is_checked"), "so the first test would name it"
