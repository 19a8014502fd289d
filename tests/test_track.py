"""Calibration of the tracker: on rendered clips, on softened ones, and on clips that it must not pretend to read."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sora_edu.config import WorldConfig
from sora_edu.errors import InputError
from sora_edu.world.render import COLOUR_RGB, render
from sora_edu.world.scenes import make_state, sample_state
from sora_edu.world.tracker.motion import fit_collision, fit_motion
from sora_edu.world.tracker.segment import segment
from sora_edu.world.tracker.shape import AREA, draw
from sora_edu.world.tracker.track import NOTHING, UNCLEAR, describe, track, velocity_error
from sora_edu.world.vocabulary import COLOURS, MOTIONS, SCENES, SHAPES

ATTRIBUTES = ("shape", "colour", "size", "motion", "scene", "background")


def drawn(n, seed=0, config=None, scene=None):
    config = config or WorldConfig()
    state = sample_state(n, config, split="all", scene=scene, generator=torch.Generator().manual_seed(seed))
    return state, render(state, config)


def softened(video, seed=0, sigma=0.5, noise=0.025):
    """The clips as a VAE of about 33 dB would give them back: slightly blurred, slightly noisy."""
    b, c, f, h, w = video.shape
    kernel = torch.exp(-(torch.arange(-2.0, 3.0) ** 2) / (2 * sigma**2))
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    frames = F.pad(video.transpose(1, 2).reshape(-1, 1, h, w), (2, 2, 2, 2), mode="replicate")
    blurred = F.conv2d(frames, kernel[None, None]).view(b, f, c, h, w).transpose(1, 2)
    return blurred + noise * torch.randn(video.shape, generator=torch.Generator().manual_seed(seed))


def shares(state, read):
    """Share of the clips in which each attribute of every object is right, and the mean centroid error in units."""
    right = {name: getattr(read, name) == getattr(state, name) for name in ATTRIBUTES}
    right = {name: (x.all(1) if x.ndim == 2 else x).float().mean().item() for name, x in right.items()}
    return right, (read.centre - state.centre).norm(dim=-1)[read.visible].mean().item()


def one_clip(**names):
    state = make_state(**names)
    return state, render(state)


# --- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [(33, 32, 32, 32.0), (9, 32, 32, 8.0), (17, 24, 40, 16.0), (17, 40, 24, 16.0), (17, 48, 48, 16.0)],
    ids=lambda size: "x".join(map(str, size[:3])),
)
@pytest.mark.parametrize(("scene", "bar"), [("single", 0.99), ("pair", 0.96), ("collides", 0.96)])
def test_clips_of_other_sizes_and_lengths_are_read_right(size, scene, bar):
    frames, height, width, duration = size
    config = WorldConfig(frames=frames, height=height, width=width, duration=duration)
    state, video = drawn(96, seed=3, config=config, scene=scene)
    right, error = shares(state, track(softened(video, sigma=0.3, noise=0.01), duration=duration))
    assert min(right.values()) >= bar and error < 0.2, right


def test_a_pan_is_read_in_units_a_tick_of_the_clips_own_time():
    config = WorldConfig(frames=33, duration=32.0, pan_fraction=1.0)
    state, video = drawn(24, config=config, scene="single")
    assert (track(video, duration=32.0).pan - state.pan).abs().max() < 0.02
    assert (track(video).pan - 2 * state.pan).abs().max() < 0.04  # who thinks it is half as long sees twice the speed


def test_a_velocity_error_is_in_units_a_tick_of_the_clips_own_time():
    _, video = drawn(8, config=WorldConfig(frames=33, duration=32.0), scene="single")
    read = track(softened(video), duration=32.0)
    assert torch.allclose(velocity_error(read, duration=32.0) * 2, velocity_error(read, duration=16.0))


@pytest.mark.parametrize("duration", [0, 65, "16", None, float("nan")])
def test_a_clip_that_lasts_no_time_that_a_world_can_have_is_refused(duration, as_a_user):
    with pytest.raises(InputError, match="duration=.* must be a number from 1 to 64"):
        track(torch.zeros(1, 3, 17, 32, 32), duration=duration)


@pytest.mark.parametrize(("soft", "bar"), [(False, 0.99), (True, 0.97)])
def test_single_objects_are_read_right(soft, bar):
    state, video = drawn(1024)
    read = track(softened(video) if soft else video)
    right, error = shares(state, read)
    assert min(right.values()) >= bar, right
    assert error <= (0.1 if not soft else 0.2)
    assert (read.radius / state.radius - 1)[read.visible].abs().mean() < 0.03
    assert velocity_error(read).nanmean() < 0.3


@pytest.mark.parametrize("scene", ["pair", "collides", "behind", "pan"])
@pytest.mark.parametrize(("soft", "bar"), [(False, 0.97), (True, 0.95)])
def test_other_scenes_are_read_right(scene, soft, bar):
    config = WorldConfig(pan_fraction=float(scene == "pan"))
    state, video = drawn(192, config=config, scene=None if scene == "pan" else scene)
    read = track(softened(video) if soft else video)
    right, error = shares(state, read)
    assert min(right.values()) >= bar, right
    assert error <= 0.5
    assert (read.pan - state.pan).abs().max() < 0.05
    barred = ~state.bar[:, 0].isnan()
    assert torch.equal(barred, ~read.bar[:, 0].isnan())
    assert (read.bar - state.bar)[barred].abs().max() <= 1.5 if barred.any() else True


@pytest.mark.parametrize(
    "shape", [dict(height=64, width=64), dict(frames=33), dict(width=48), dict(frames=9, height=40)]
)
def test_other_sizes_and_durations_are_read_right(shape):
    config = WorldConfig(**shape)
    state, video = drawn(96, config=config)
    right, error = shares(state, track(video))
    assert min(right.values()) >= 0.97, right
    assert error <= 0.3


def test_one_object_can_be_asked_for():
    state, video = drawn(48)
    read = track(video, objects=1)
    assert read.shape.shape == (48, 1) and read.centre.shape == (48, 1, 17, 2)
    assert (read.colour[:, 0] == state.colour[:, 0]).all()


def test_an_image_shows_everything_but_the_motion():
    state, video = drawn(48, config=WorldConfig(frames=1))
    read = track(video)
    assert (read.shape == state.shape).float().mean() > 0.95 and torch.equal(read.colour, state.colour)
    assert (read.motion[:, 0] == UNCLEAR).all() and velocity_error(read).isnan().all()
    assert track(torch.full((1, 3, 1, 32, 32), -0.96)).motion.tolist() == [[NOTHING, NOTHING]]


def test_rows_of_a_track_can_be_picked():
    read = track(drawn(6)[1])
    assert len(read) == 6 and len(read[2]) == 1 and torch.equal(read[[4, 1]].colour, read.colour[[4, 1]])


@pytest.mark.parametrize("shape", SHAPES)
def test_area_constants_are_those_of_the_renderer(shape):
    at, radius = torch.full((1, 1, 2), 64.0), torch.full((1, 1), 40.0)
    assert draw(shape, at, radius, 128, 128).sum().item() == pytest.approx(AREA[shape] * 40**2, rel=0.01)


# --- what is not there, and what cannot be told ----------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
def test_an_empty_clip_shows_nothing(noise):
    ground = torch.tensor([-0.92, -0.88, -0.56]).view(1, 3, 1, 1, 1).expand(4, 3, 17, 32, 32)
    read = track(ground + noise * torch.randn(ground.shape, generator=torch.Generator().manual_seed(0)))
    for name in ("shape", "colour", "size", "motion"):
        assert (getattr(read, name) == NOTHING).all()
    assert (read.scene == NOTHING).all() and not read.visible.any() and (read.background == 2).all()
    assert describe(read, 0) == "nothing there" and velocity_error(read).isnan().all()


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_a_clip_of_noise_is_unclear(spread):
    video = (spread * torch.randn(8, 3, 17, 32, 32, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    read = track(video)
    assert (read.shape[:, 0] == UNCLEAR).all() and (read.motion[:, 0] == UNCLEAR).all()
    assert [describe(read, i) for i in range(8)] == ["unclear"] * 8


def moved(path, **names):
    """One red circle on the given path (f 2, units)."""
    state = make_state(motion="still", **names)
    centre = state.centre.clone()
    centre[0, 0] = path
    return render(replace(state, centre=centre))


def test_an_object_that_jumps_about_has_no_motion():
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        read = track(moved(8 + 16 * torch.rand(17, 2, generator=generator), size="small"))
        assert read.motion[0, 0] == UNCLEAR and read.shape[0, 0] == SHAPES.index("circle")
        assert describe(read, 0) == "a red circle is there (motion unclear)"


def test_a_random_walk_is_no_motion():
    steps = torch.randn(64, 17, 2, generator=torch.Generator().manual_seed(0))
    paths = 16 + 1.5 * (steps.cumsum(1) - steps[:, :1])
    motion, _, _ = fit_motion(paths, torch.full((64, 17), 5.0), torch.ones(64, 17, dtype=torch.bool))
    assert (motion == UNCLEAR).float().mean() > 0.9


def test_half_a_disc_has_no_shape():
    _, video = one_clip(motion="still", size="large", background="black")
    column = track(video).centre[0, 0, 0, 0].int()
    video[..., column:] = -0.96
    assert track(video).shape[0, 0] == UNCLEAR


def test_a_faded_or_foreign_colour_is_unclear():
    _, video = one_clip(colour="red", motion="still", background="black")
    ground = video[:, :, :1, :1, :1]
    assert track(ground + 0.4 * (video - ground)).colour[0, 0] == UNCLEAR
    red, pink = (torch.tensor(rgb) * 2 - 1 for rgb in (COLOUR_RGB["red"], (1.0, 0.5, 0.7)))
    alpha = (video - ground)[:, :1] / (red[0] - ground[:, :1])
    pinks = track(ground + alpha * (pink.view(1, 3, 1, 1, 1) - ground))
    assert pinks.colour[0, 0] == UNCLEAR and pinks.shape[0, 0] == SHAPES.index("circle")


def test_an_object_that_vanishes_has_no_motion():
    _, video = one_clip(motion="right")
    video[:, :, 9:] = video[:, :, :1, :1, :1]
    read = track(video)
    assert read.motion[0, 0] == UNCLEAR and not read.visible[0, 0, 9:].any() and read.centre[0, 0, 9:].isnan().all()


def test_two_objects_of_one_colour_have_no_shape():
    left, right = (moved(torch.tensor([x, 16.0]).expand(17, 2), size="small") for x in (8.0, 24.0))
    assert track(torch.maximum(left, right)).shape[0, 0] == UNCLEAR


# --- motions that are easily confused --------------------------------------------------------------------------------

T = torch.linspace(0, 1, 17)
STAYS = torch.zeros(17)


def read_path(x, y, radius=None, noise=0.0, n=32):
    path = torch.stack((16 + x, 16 + y), -1).expand(n, 17, 2)
    path = path + noise * torch.randn(n, 17, 2, generator=torch.Generator().manual_seed(0))
    radius = torch.full((17,), 5.0) if radius is None else radius
    motion, _, _ = fit_motion(path, radius.expand(n, 17), torch.ones(n, 17, dtype=torch.bool))
    words = [MOTIONS[m] if m >= 0 else "unclear" for m in motion.tolist()]
    return max(set(words), key=words.count), max(words.count(w) for w in words) / n


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.5])
@pytest.mark.parametrize(
    ("word", "x", "y"),
    [
        ("still", STAYS, STAYS),
        ("right", 9 * T, STAYS),
        ("left", -9 * T, STAYS),
        ("up", STAYS, -9 * T),
        ("down", STAYS, 9 * T),
        ("falls", STAYS, 10 * T**2),
        ("bounces", STAYS, torch.where(T < 0.5, 40 * T**2, 10 - 36 * (T - 0.5) + 40 * (T - 0.5) ** 2)),
        ("orbits", 5 * (5 * T).cos(), 5 * (5 * T).sin()),
        ("orbits", 5 * (-5 * T).cos(), 5 * (-5 * T).sin()),
    ],
)
def test_laws_are_told_apart_through_noise(word, x, y, noise):
    read, share = read_path(x, y, noise=noise)
    assert read == word and share >= 0.95


def test_falling_and_moving_down_are_not_confused_in_pixels():
    for curve, word in ((T, "down"), (T**2, "falls")):
        read = track(moved(torch.stack((16 + STAYS, 8 + 14 * curve), -1)))
        assert MOTIONS[read.motion[0, 0]] == word and describe(read, 0).startswith("a red circle")


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (STAYS, 10 * T - 12 * T**2),  # thrown up: it starts with a speed, so it is no fall from rest
        (9 * T, 9 * T),  # aslant
        (STAYS, 10 * T.clamp(max=0.5) * 2),  # stops half-way
        (7 * T.clamp(max=0.5) * 2, STAYS),
        (STAYS, torch.where(T < 0.5, 10 * T, 10 - 10 * T)),  # turns without gravity
        (4 * (12 * T).sin(), STAYS),  # sways
        (2.5 * T, STAYS),  # between still and moving
    ],
)
def test_other_paths_are_unclear(x, y):
    assert read_path(x, y) == ("unclear", 1.0)


def test_size_decides_between_still_grows_and_shrinks():
    for change, word in ((0, "still"), (0.05, "still"), (0.5, "grows"), (-0.4, "shrinks"), (0.2, "unclear")):
        assert read_path(STAYS, STAYS, radius=5 * (1 + change * T))[0] == word
    assert read_path(9 * T, STAYS, radius=5 * (1 + 0.8 * T))[0] == "unclear"


def test_a_collision_hands_the_velocity_over():
    hit, speed = 0.45, 15
    first, second = 6 + speed * T.clamp(max=hit), 20 + speed * (T - hit).clamp(min=0)
    through = 6 + speed * T  # passes as if nothing were there
    seen = torch.ones(1, 2, 17, dtype=torch.bool)
    for one, two, verdict in ((first, second, True), (through, 20 + STAYS, False), (first, 20 + STAYS, False)):
        path = torch.stack((torch.stack((one, 16 + STAYS), -1), torch.stack((two, 16 + STAYS), -1)))[None]
        assert fit_collision(path, seen)[0].item() is verdict


def test_velocity_error_grows_with_what_the_law_does_not_explain():
    wobble = 0.4 * torch.tensor([1.0, -1.0]).repeat(9)[:17]
    smooth = track(moved(torch.stack((8 + 14 * T, 16 + STAYS), -1)))
    rough = track(moved(torch.stack((8 + 14 * T + wobble, 16 + STAYS), -1)))
    assert velocity_error(smooth) < 0.05 and velocity_error(rough).item() == pytest.approx(0.8, abs=0.15)


# --- words and errors ------------------------------------------------------------------------------------------------


def test_describe_says_what_happens():
    for names in (dict(colour="orange", shape="ring", motion="orbits"), dict(colour="blue", shape="star", motion="up")):
        words = describe(track(one_clip(**names)[1]), 0)
        assert words == {"ring": "an orange ring orbits", "star": "a blue star moves up"}[names["shape"]]
    words = [describe(track(drawn(1, scene=scene)[1]), 0) for scene in SCENES[1:]]
    assert " and a" in words[0] and " and hits a" in words[1] and words[2].endswith("behind a bar")
    assert all(any(colour in word for colour in COLOURS) for word in words)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (torch.zeros(3, 17, 32, 32), r"x\[None\]"),
        (torch.zeros(1, 1, 17, 32, 32), r"1 where \(b 3 f h w\) needs 3"),
        (torch.zeros(1, 3, 17, 8, 8), "16 or more"),
        (torch.zeros(1, 3, 17, 32, 32, dtype=torch.uint8), "127.5"),
        (torch.full((1, 3, 17, 32, 32), math.nan), "NaN"),
        (torch.full((1, 3, 17, 32, 32), 255.0), "from 0..255"),
    ],
)
def test_unreadable_input_raises_input_error(video, message):
    with pytest.raises(InputError, match=message):
        track(video)


def test_three_objects_cannot_be_asked_for():
    with pytest.raises(InputError, match="use 1 or 2"):
        track(torch.zeros(1, 3, 17, 32, 32), objects=3)


@pytest.mark.parametrize("i", [2, -3, 0.0, True])
def test_a_clip_that_is_not_there_is_not_described(i, as_a_user):
    tracked = track(render(sample_state(2, generator=torch.Generator().manual_seed(0))))
    with pytest.raises(InputError, match=f"i={i} is none of 2 clips; count from 0"):
        describe(tracked, i)


@pytest.mark.parametrize("objects", [0, 3, "2"])
def test_a_clip_is_cut_into_one_object_or_two(objects, as_a_user):
    with pytest.raises(InputError, match="this tracker tells one object or two apart; use 1 or 2"):
        segment(torch.zeros(1, 3, 5, 32, 32), objects)
