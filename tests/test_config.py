"""Settings say what they take: every field has its declared type, and every number lies in its range."""

import math
from dataclasses import fields, replace
from typing import get_type_hints

import jaxtyping
import pytest

from sora_edu.config import (
    COMPACT,
    PRESETS,
    TINY,
    TINY_SIZES,
    DiTConfig,
    Preset,
    TextConfig,
    TrainConfig,
    VAEConfig,
    WorldConfig,
)
from sora_edu.errors import InputError

SOUND = [
    WorldConfig(),
    VAEConfig(),
    TextConfig(),
    DiTConfig(),
    TrainConfig(steps=1, batch=1, lr=0.1),
    *PRESETS.values(),
]
WRONG = ["6", None, [], {}, 10**400, 10**10_000, -(10**10_000), math.nan, math.inf, -1, True, b"x", (1, "a"), (True,)]


@pytest.fixture(autouse=True)
def without_the_checks_of_the_tests():
    """A user has no beartype before these checks, so they are tried without."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("config", SOUND, ids=lambda config: type(config).__name__)
def test_every_field_refuses_values_of_another_kind(config):
    for field in fields(config):
        kind = get_type_hints(type(config))[field.name]
        for wrong in WRONG:
            if type(wrong) is kind:  # the ranges of numbers are tested below
                continue
            with pytest.raises(InputError, match=f"^{field.name}=.{{1,80}} must be "):
                replace(config, **{field.name: wrong})


@pytest.mark.parametrize("config", SOUND, ids=lambda config: type(config).__name__)
def test_every_number_has_a_range_and_nan_lies_in_none(config):
    for name, kind in get_type_hints(type(config)).items():
        for wrong in {int: (-1, 10**12, 10**400), float: (-1.0, math.nan, math.inf)}.get(kind, ()):
            with pytest.raises(InputError, match=f"{name}="):
                replace(config, **{name: wrong})


def test_a_whole_number_may_be_given_for_a_fraction():
    assert TrainConfig(steps=1, batch=1, lr=0.1, image_fraction=0).image_fraction == 0
    assert DiTConfig(mlp_ratio=4) == DiTConfig()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiTConfig(heads=0), "heads=0 must be a whole number from 1 to 1,024"),
        (lambda: DiTConfig(depth="6"), "depth='6' must be a whole number from 0 to 64"),
        (lambda: DiTConfig(depth=10**6), "depth=1000000 must be a whole number from 0 to 64"),
        (lambda: DiTConfig(patch=2), "patch=2 must be 3 numbers, each a whole number from 1 to 64"),
        (lambda: DiTConfig(patch=(1, 2)), r"patch=\(1, 2\) must be 3 numbers"),
        (lambda: DiTConfig(mlp_ratio=math.nan), "mlp_ratio=nan must be a number from 0.25 to 16"),
        (lambda: DiTConfig(width=32, heads=8), "width=32 leaves 4 channels to each of 8 heads; .* use 5 heads at most"),
        (lambda: TextConfig(heads=5), "width=128 must be an even multiple of heads=5"),
        (lambda: TextConfig(max_tokens=10**9), "max_tokens=1000000000 must be a whole number from 1 to 4,096"),
        (lambda: VAEConfig(widths=(64, 96, -1)), r"widths=\(64, 96, -1\) must be some numbers, each a whole number"),
        (lambda: VAEConfig(widths=()), r"ft=4 does not fit 0 widths"),
        (lambda: VAEConfig(channels=10**10_000), "channels=<33220 bits> must be a whole number"),
        (lambda: replace(TINY, vae={}), "vae={} must be a VAEConfig"),
        (lambda: replace(TINY, half=1), "half=1 must be True or False"),
        (lambda: replace(TINY, shift=None), "shift=None must be a number from 0.01 to 100"),
        (lambda: replace(TINY, vae=VAEConfig(channels=8)), "channels=16 of the transformer must be the VAE's 8"),
        (lambda: replace(TINY, text=TextConfig(width=64)), "text_width=128 must be the text encoder's width=64"),
        (lambda: replace(TINY, other_sizes=((17, 32),)), r"other_sizes=.* must be tuples of 3 numbers, each a whole"),
        (lambda: replace(TINY, other_sizes=((18, 32, 32),)), "frames=18 is not 1 .* use 17 or 21"),
        (lambda: replace(TINY, other_sizes=((17, 32, 36),)), "width=36 is not a positive multiple of 8; use 32 or 40"),
        (
            lambda: replace(TINY_SIZES, other_sizes=()),
            r"other_share=0.5 of no other_sizes; give some, such as \(33, 32, 32\)",
        ),
        (lambda: replace(TINY, times="normal"), "times='normal' are not drawn; use 'logit-normal' or 'uniform'"),
        (lambda: WorldConfig(duration=65.0), "duration=65.0 must be a number from 1 to 64"),
    ],
)
def test_each_message_names_the_value_and_what_fits(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_parts_of_a_preset_are_checked_by_their_own_kind():
    with pytest.raises(InputError, match="world=.* must be a WorldConfig"):
        Preset(**{field.name: getattr(TINY, field.name) for field in fields(TINY)} | {"world": TINY.vae})


def test_a_world_of_another_size_is_filmed_at_the_same_rate():
    preset = replace(TINY, world=WorldConfig(pair_fraction=0.3), other_sizes=((33, 24, 40), (1, 32, 32), (9, 48, 48)))
    own, *others = preset.worlds
    assert own == preset.world
    assert [(w.frames, w.height, w.width) for w in others] == list(preset.other_sizes)
    assert [w.duration for w in others] == [32.0, 16.0, 8.0]
    assert {w.pair_fraction for w in others} == {0.3} and others[0].pixels == 33 * 24 * 40
    picture = replace(TINY, world=WorldConfig(frames=1))
    assert picture.world_at(17, 32, 32).duration == 16.0  # a picture has no rate


def test_the_latents_shape_follows_from_the_settings():
    config = VAEConfig(channels=6, fs=8)
    assert config.latent_shape(17, 64, 24) == (6, 5, 8, 3) and config.latent_shape(1, 8, 8) == (6, 1, 1, 1)
    assert TINY.latent_shape == (16, 5, 8, 8) and COMPACT.latent_shape == (16, 5, 8, 8)
    with pytest.raises(InputError, match="frames=16 is not 1 \\+ a multiple of 4; use 13 or 17"):
        config.latent_shape(16, 64, 64)
    with pytest.raises(InputError, match="width=20 is not a positive multiple of 8; use 16 or 24"):
        config.latent_shape(17, 64, 20)
