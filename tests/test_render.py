"""The renderer draws the state that it is given: right place, right area, right colour, right order."""

import math
from dataclasses import replace

import pytest
import torch

from sora_edu.config import WorldConfig
from sora_edu.errors import InputError
from sora_edu.world.paths import EXTENT
from sora_edu.world.render import BACKGROUND_RGB, BAR_RGB, COLOUR_RGB, STRIPE_PERIOD, coverage, render
from sora_edu.world.scenes import make_state, sample_state
from sora_edu.world.state import State
from sora_edu.world.vocabulary import BACKGROUNDS, COLOURS, SCENES, SHAPES

# Areas over the squared radius. A pentagram of circumradius R has inner corners at q = R cos 72 / cos 36 degrees.
STAR = 5 * 1.25**2 * math.cos(math.radians(72)) / math.cos(math.radians(36)) * math.sin(math.radians(36))
AREA = {
    "circle": math.pi,
    "square": 1.8**2,
    "triangle": 3 * math.sqrt(3) * 0.625**2,  # 0.625 r from the centroid to each side
    "star": STAR,
    "ring": math.pi * (1.05**2 - 0.55**2),
}


def draw(n, shape=(17, 32, 32), *, scene="single", seed=0, pans=0.0) -> tuple[State, torch.Tensor, WorldConfig]:
    config = WorldConfig(frames=shape[0], height=shape[1], width=shape[2], pan_fraction=pans)
    state = sample_state(n, config, split="all", scene=scene, generator=torch.Generator().manual_seed(seed))
    return state, render(state, config), config


def rgb(table: dict, name: str) -> torch.Tensor:
    return torch.tensor(table[name]) * 2 - 1


def covered(video, state) -> torch.Tensor:
    """Share of each pixel that the only object covers, ``b f h w``: where its colour lies between ground and object."""
    grounds = torch.stack([rgb(BACKGROUND_RGB, BACKGROUNDS[i]) for i in state.background])
    colours = torch.stack([rgb(COLOUR_RGB, COLOURS[i]) for i in state.colour[:, 0]])
    way = colours - grounds
    return torch.einsum("bcfhw,bc->bfhw", video - grounds[:, :, None, None, None], way / (way**2).sum(1, keepdim=True))


@pytest.mark.parametrize("shape", [(17, 32, 32), (5, 64, 64), (9, 32, 48)])
def test_the_drawn_centroid_and_area_are_those_of_the_state(shape):
    state, video, config = draw(400, shape)
    cover, unit = covered(video, state), min(shape[1:]) / 32
    mass = cover.sum((2, 3))
    x = (cover.sum(2) @ (torch.arange(config.width) + 0.5)) / mass
    y = (cover.sum(3) @ (torch.arange(config.height) + 0.5)) / mass
    error = (torch.stack((x, y), -1) - state.centre[:, 0] * unit).abs()
    assert error.mean() < 0.02 and error.max() < 0.25  # pixels; the smallest are ragged
    expected = torch.tensor([AREA[s] for s in SHAPES])[state.shape[:, 0], None] * (state.radius[:, 0] * unit) ** 2
    for s, name in enumerate(SHAPES):
        rows = state.shape[:, 0] == s
        wrong = (mass[rows] / expected[rows] - 1).abs()
        large = (state.radius[rows, 0] * unit) > 3  # the tips of a tiny star are thinner than a pixel
        assert wrong.mean() < 0.03 and wrong[large].max() < 0.1, name


def test_the_extent_holds_the_shape_and_is_reached():
    for shape in SHAPES:
        config = WorldConfig(frames=1, height=128, width=128)
        state = make_state(config, shape=shape, colour="white", size="large", motion="still")
        cover = covered(render(state, config), state)[0, 0] > 0.5
        rows, columns = cover.any(1).nonzero()[:, 0], cover.any(0).nonzero()[:, 0]
        centre = state.centre[0, 0, 0] * 4
        far = max((columns + 0.5 - centre[0]).abs().max(), (rows + 0.5 - centre[1]).abs().max())
        reach = EXTENT[shape] * state.radius[0, 0, 0] * 4
        assert reach - 4 < far < reach + 1, shape


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("shape", [(17, 32, 32), (33, 32, 32), (5, 64, 64), (5, 32, 48), (5, 48, 32), (1, 32, 32)])
def test_any_size_gives_finite_pixels_in_range(scene, shape):
    _, video, _ = draw(24, shape, scene=scene, pans=0.3)
    assert video.shape == (24, 3, *shape) and video.dtype == torch.float32
    assert video.isfinite().all() and -1 <= video.min() and video.max() <= 1


def test_a_batch_is_drawn_as_its_clips_one_by_one():
    for scene in SCENES:
        state, video, config = draw(40, (3, 32, 48), scene=scene, pans=0.3)
        alone = torch.cat([render(state[i], config) for i in range(40)])
        assert torch.allclose(video, alone, atol=1e-5)


def test_rendering_is_deterministic_and_leaves_the_state_alone():
    state, video, config = draw(30, scene="pair")
    before = state.centre.clone()
    assert torch.equal(render(state, config), video) and torch.equal(state.centre, before)


def test_more_frames_show_the_same_clip():
    coarse, fine = (draw(60, (f, 32, 32), scene=s)[1] for s, f in (("single", 17), ("single", 33)))
    assert torch.allclose(fine[:, :, ::2], coarse, atol=1e-3)


def test_more_pixels_show_the_same_clip():
    state, coarse, _ = draw(60, (3, 32, 32))
    fine = render(state, WorldConfig(frames=3, height=64, width=64))
    assert (torch.nn.functional.avg_pool3d(fine, (1, 2, 2)) - coarse).abs().mean() < 0.01


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_colours_are_those_of_the_palette(colour, background):
    state = make_state(shape="square", colour=colour, size="large", motion="still", background=background)
    video = render(state)[0, :, 0]
    x, y = (int(i) for i in state.centre[0, 0, 0])
    assert torch.allclose(video[:, y, x], rgb(COLOUR_RGB, colour), atol=1e-5)
    assert torch.allclose(video[:, 0, 0], rgb(BACKGROUND_RGB, background), atol=1e-5)


def test_no_object_leaves_the_ground():
    state = make_state()
    empty = replace(state, shape=torch.full_like(state.shape, -1))
    assert torch.allclose(
        render(empty), rgb(BACKGROUND_RGB, "black")[None, :, None, None, None].expand(1, 3, 17, 32, 32)
    )


def test_the_later_object_lies_over_the_earlier_and_the_bar_over_both():
    state = make_state(shape="square", colour="red", size="large", motion="still")
    centre = state.centre[:, :1].expand(-1, 2, -1, -1)
    both = replace(
        state,
        shape=torch.tensor([[SHAPES.index("square"), SHAPES.index("circle")]]),
        colour=torch.tensor([[COLOURS.index("red"), COLOURS.index("blue")]]),
        centre=centre,
        radius=torch.stack((state.radius[:, 0], state.radius[:, 0] / 2), 1),
    )
    x, y = (int(i) for i in centre[0, 0, 0])
    video = render(both)[0, :, 0]
    assert torch.allclose(video[:, y, x], rgb(COLOUR_RGB, "blue"), atol=1e-5)
    assert torch.allclose(video[:, y, x + 5], rgb(COLOUR_RGB, "red"), atol=1e-5)
    barred = render(replace(both, bar=torch.tensor([[x - 1.0, x + 2.0]])))[0, :, 0]
    assert torch.allclose(barred[:, :, x], (torch.tensor(BAR_RGB) * 2 - 1)[:, None].expand(3, 32), atol=1e-5)
    assert torch.allclose(barred[:, y, x + 5], rgb(COLOUR_RGB, "red"), atol=1e-5)


def test_an_object_behind_the_bar_is_out_of_sight_for_a_while():
    state, video, config = draw(100, scene="behind")
    without = render(replace(state, shape=torch.full_like(state.shape, -1)), config)
    seen = (video - without).abs().amax((1, 3, 4))  # b f
    assert (seen.amin(1) < 0.1).all() and (seen[:, [0, -1]] > 0.2).all()
    bar = state.bar.mean(1).long()
    column = video[torch.arange(100), :, :, :, bar]  # the bar's middle never changes
    assert torch.allclose(column, (torch.tensor(BAR_RGB) * 2 - 1)[None, :, None, None].expand_as(column), atol=1e-5)


def test_stripes_show_the_pan_and_nothing_else_does():
    state, _, config = draw(200, pans=1.0)
    row = render(replace(state, shape=torch.full_like(state.shape, -1)), config)[:, 0, :, 0]  # b f w, two periods
    wave = torch.exp(-2j * math.pi * (torch.arange(32) + 0.5) / STRIPE_PERIOD)
    phase = (row.to(torch.complex64) @ wave).angle()
    step = torch.remainder(phase.diff(dim=1) + math.pi, 2 * math.pi) - math.pi
    moved = step * STRIPE_PERIOD / (2 * math.pi)  # units a tick that the camera has moved to the right
    assert torch.allclose(moved, state.pan[:, None].expand(-1, 16), atol=1e-3)
    assert (state.pan > 0).any() and (state.pan < 0).any()
    plain = replace(state, pan=torch.zeros_like(state.pan), shape=torch.full_like(state.shape, -1))
    assert render(plain, config)[:, 0].flatten(1).std(1).max() < 1e-6


def test_motions_look_as_they_are_called():
    for motion, axis, sign in (("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1), ("falls", 1, 1)):
        state = make_state(shape="star", motion=motion, size="small", seed=1)
        cover = covered(render(state), state)[0, [0, -1]]
        along = cover.sum(1 if axis == 0 else 2) @ torch.arange(32.0) / cover.sum((1, 2))
        assert sign * (along[1] - along[0]) > 2, motion


def test_a_shape_that_the_world_lacks_is_refused():
    x = torch.zeros(1, 1, 1, 4)
    with pytest.raises(InputError, match="'hexagon' is not in this world; use one of circle, square"):
        coverage("hexagon", x, x.mT, torch.ones(1, 1, 1, 1))


@pytest.mark.parametrize(("name", "index"), [("shape", 5), ("colour", 8), ("background", -1)])
def test_a_state_that_names_nothing_is_not_drawn(name, index):
    state = make_state()
    with pytest.raises(InputError, match=f"state.{name} reaches from .*{index}, but its indices go from"):
        render(replace(state, **{name: torch.full_like(getattr(state, name), index)}))


def test_an_object_without_a_colour_is_not_drawn():
    state = make_state()
    with pytest.raises(InputError, match="state.colour is -1 for an object that is there"):
        render(replace(state, colour=torch.full_like(state.colour, -1)))
