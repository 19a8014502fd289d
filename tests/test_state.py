"""The toy world's state is exact: what is trained on, where things are, and the physics they obey."""

from dataclasses import fields, replace

import pytest
import torch

from sora_edu.config import WorldConfig
from sora_edu.errors import InputError
from sora_edu.world.paths import EXTENT, MARGIN, TICKS, bounce, pixels_per_unit, tick_times
from sora_edu.world.scenes import MOST_FRAMES, combinations, make_state, sample_state
from sora_edu.world.state import State, cat_states, check_state
from sora_edu.world.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOUR_MOTION,
    HELD_OUT_SHAPE_COLOUR,
    MOTIONS,
    SCENES,
    SHAPES,
    SIZES,
)

CANVASES = [(17, 32, 32), (33, 64, 64), (17, 32, 48), (5, 48, 32), (1, 32, 32)]


def draw(n=400, shape=(17, 32, 32), *, seed=0, split="all", scene="single", pans=0.0) -> State:
    config = WorldConfig(frames=shape[0], height=shape[1], width=shape[2], pan_fraction=pans)
    return sample_state(n, config, split=split, scene=scene, generator=torch.Generator().manual_seed(seed))


def moving(motion: str, n=3000, shape=(17, 32, 32), **options) -> State:
    state = draw(n, shape, **options)
    return state[state.motion[:, 0] == MOTIONS.index(motion)]


def half_sizes(state: State) -> torch.Tensor:
    """Half the extent of each object at each frame; 0 where there is no object."""
    extent = torch.tensor([*EXTENT.values(), 0.0])[state.shape]
    return extent[..., None] * state.radius


def same(a: State, b: State) -> bool:
    return all(torch.equal(getattr(a, f.name).nan_to_num(), getattr(b, f.name).nan_to_num()) for f in fields(State))


def held_out(shape: str, colour: str, motion: str) -> bool:
    return (shape, colour) in HELD_OUT_SHAPE_COLOUR or (colour, motion) in HELD_OUT_COLOUR_MOTION


# --- what is drawn ---------------------------------------------------------------------------------------------------


def test_splits_part_all_combinations():
    train, heldout, everything = (set(map(tuple, combinations(s).tolist())) for s in ("train", "heldout", "all"))
    assert not train & heldout and train | heldout == everything
    assert len(everything) == len(SHAPES) * len(COLOURS) * len(MOTIONS)
    for shape, colour, motion in everything:
        expected = held_out(SHAPES[shape], COLOURS[colour], MOTIONS[motion])
        assert ((shape, colour, motion) in heldout) == expected


def test_held_out_combinations_leave_each_word_in_training():
    train = combinations("train")
    assert all(
        set(train[:, i].tolist()) == set(range(n)) for i, n in enumerate((len(SHAPES), len(COLOURS), len(MOTIONS)))
    )


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_single_clips_show_all_combinations_of_their_split_and_no_other(split):
    state = draw(20_000, (1, 32, 32), split=split)
    seen = set(map(tuple, torch.stack((state.shape[:, 0], state.colour[:, 0], state.motion[:, 0]), 1).tolist()))
    assert seen == set(map(tuple, combinations(split).tolist()))
    assert set(state.size[:, 0].tolist()) == set(range(len(SIZES)))
    assert set(state.background.tolist()) == set(range(len(BACKGROUNDS)))
    assert (state.shape[:, 1] == -1).all() and state.bar.isnan().all()


@pytest.mark.parametrize("scene", ["pair", "collides", "behind"])
def test_other_scenes_keep_to_the_training_split_too(scene):
    state = draw(4000, (2, 32, 32), split="train", scene=scene)
    assert (state.scene == SCENES.index(scene)).all()
    for k in range(2 if scene != "behind" else 1):
        # In a collision both objects move, before or after the impact, the way the first one comes.
        motions = state.motion[:, 0 if scene == "collides" else k]
        triples = set(zip(state.shape[:, k].tolist(), state.colour[:, k].tolist(), motions.tolist(), strict=True))
        assert not [t for t in triples if held_out(SHAPES[t[0]], COLOURS[t[1]], MOTIONS[t[2]])]
    if scene != "behind":
        assert (state.colour[:, 0] != state.colour[:, 1]).all()


def test_the_shares_of_the_config_are_kept(generator):
    config = WorldConfig(frames=1, pair_fraction=0.3, pan_fraction=0.2)
    state = sample_state(8000, config, generator=generator)
    shares = torch.bincount(state.scene, minlength=len(SCENES)) / 8000
    assert torch.allclose(shares, torch.tensor([0.7, 0.1, 0.1, 0.1]), atol=0.02)
    assert abs((state.pan != 0).float().mean() - 0.2) < 0.02
    assert (state.scene[state.pan != 0] == 0).all() and (state.pan > 0).any() and (state.pan < 0).any()


def test_one_generator_gives_one_world():
    for scene in SCENES:
        assert same(draw(50, scene=scene, seed=3), draw(50, scene=scene, seed=3))
        assert not same(draw(50, scene=scene, seed=3), draw(50, scene=scene, seed=4))
    assert same(make_state(seed=2), make_state(seed=2)) and not same(make_state(seed=2), make_state(seed=3))


def test_states_are_indexed_and_joined():
    state = draw(6, scene="collides")
    assert len(state[2]) == 1 and len(state[1:4]) == 3
    assert same(cat_states([state[:2], state[2:]]), state)
    assert same(cat_states([state[i] for i in range(6)]), state)


# --- where things are ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("shape", CANVASES)
def test_objects_stay_in_view_at_every_frame(scene, shape):
    state = draw(1500, shape, scene=scene, pans=0.3)
    half, unit = half_sizes(state), min(shape[1:]) / 32
    there = (state.shape >= 0)[..., None].expand_as(half)
    for axis, side in ((0, shape[2] / unit), (1, shape[1] / unit)):
        x = state.centre[..., axis]
        assert (x - half)[there].min() >= MARGIN - 1e-3
        assert (x + half)[there].max() <= side - MARGIN + 1e-3


def test_pairs_keep_to_their_halves():
    state = draw(2000, scene="pair")
    x, half = state.centre[..., 0], half_sizes(state)
    assert ((x + half)[:, 0] <= 16).all() and ((x - half)[:, 1] >= 16).all()


@pytest.mark.parametrize("motion", MOTIONS)
def test_other_frame_counts_sample_the_same_world_time(motion):
    clips = [moving(motion, 600, (f, 32, 32)) for f in (17, 33, 5, 1)]
    for clip, every in zip(clips[1:], (0.5, 4, 17), strict=True):
        fine, coarse, step = (clip, clips[0], 2) if every < 1 else (clips[0], clip, every)
        assert torch.allclose(fine.centre[:, :, ::step], coarse.centre, atol=1e-4)
        assert torch.allclose(fine.radius[:, :, ::step], coarse.radius, atol=1e-4)


def test_other_resolutions_show_the_same_world():
    assert same(draw(200, (17, 32, 32)), draw(200, (17, 64, 64)))
    assert torch.allclose(draw(200, (17, 32, 48)).centre, draw(200, (17, 64, 96)).centre, atol=1e-4)


# --- how things move -------------------------------------------------------------------------------------------------


def test_steady_motions_have_a_constant_velocity_of_the_right_sign():
    for motion, axis, sign in (("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)):
        velocity = moving(motion).centre[:, 0].diff(dim=1)
        assert (velocity[..., axis] * sign > 0.1).all() and velocity[..., 1 - axis].abs().max() < 1e-4
        assert velocity.diff(dim=1).abs().max() < 1e-4
    assert moving("still").centre[:, 0].diff(dim=1).abs().max() < 1e-5


def test_falling_starts_at_rest_and_obeys_one_constant_g():
    y = moving("falls").centre[:, 0, :, 1]
    g = 2 * (y[:, -1] - y[:, 0]) / TICKS**2
    tau = torch.linspace(0, TICKS, 17)
    assert (g > 0.02).all()
    assert torch.allclose(y - y[:, :1], g[:, None] * tau**2 / 2, atol=1e-4)


def test_a_bouncing_object_meets_the_floor_once_and_rebounds_with_its_share():
    state = moving("bounces", shape=(1601, 32, 32), n=600)  # a hundredth of a tick
    y, dt = state.centre[:, 0, :, 1], TICKS / 1600
    gap = 32 - MARGIN - (y + half_sizes(state)[:, 0])
    hit = gap.argmin(1)
    assert gap.min() >= -1e-3 and gap.amin(1).max() < 0.05
    before = torch.arange(1600)[None] < hit[:, None] - 2
    assert (gap.diff(dim=1)[before] < 1e-4).all() and (gap[:, -1] > 0.2).all()  # down till the impact, then in the air
    rows = torch.arange(len(y))
    v_in = (y[rows, hit - 2] - y[rows, hit - 12]) / (10 * dt)
    v_out = (y[rows, hit + 12] - y[rows, hit + 2]) / (10 * dt)
    share = -v_out / v_in
    assert (0.75 < share).all() and (share < 1.0).all()
    # One gravity before and after: second differences over a whole tick, away from the impact.
    tick = 100
    g = y[:, 2 * tick] - 2 * y[:, tick] + y[:, 0]
    g_after = y[:, -1] - 2 * y[:, -1 - tick] + y[:, -1 - 2 * tick]
    assert torch.allclose(g, g_after, rtol=0.02)
    assert g.min() > 0.1


def test_orbits_keep_their_distance_from_a_fixed_point():
    state = moving("orbits", shape=(65, 32, 32), n=1500)
    xy = state.centre[:, 0]
    velocity = xy.diff(dim=1)
    speed, a, b = velocity.norm(dim=-1), velocity[:, :-1], velocity[:, 1:]
    turn = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    assert torch.allclose(speed, speed[:, :1].expand_as(speed), rtol=1e-2)
    assert (turn.sign() == turn[:, :1].sign()).all()  # it turns one way
    assert {-1.0, 1.0} == set(turn[:, 0].sign().tolist())
    angle = (turn / (speed[:, :-1] * speed[:, 1:])).clamp(-1, 1).asin().sum(1).abs()
    assert (angle > 3.9).all() and (angle < 6.4).all()  # between 0.65 of a turn and a whole one


def test_only_growing_and_shrinking_change_the_size():
    for motion in MOTIONS:
        radius = moving(motion).radius[:, 0]
        ratio = radius[:, -1] / radius[:, 0]
        low, high = {"grows": (1.39, 1.61), "shrinks": (0.44, 0.61)}.get(motion, (1 - 1e-6, 1 + 1e-6))
        assert (ratio >= low).all() and (ratio <= high).all()
    sizes = draw(3000)
    means = [sizes.radius[sizes.size[:, 0] == s, 0, 0].mean() for s in range(3)]
    assert means[0] + 1 < means[1] and means[1] + 1 < means[2]


def test_a_collision_hands_the_velocity_over():
    state = draw(500, (1601, 32, 32), scene="collides")
    x, half = state.centre[..., 0], half_sizes(state)
    velocity = x.diff(dim=2) * 100  # units a tick
    first, last = velocity[:, :, 0], velocity[:, :, -1]
    assert torch.allclose(first.flip(1), last, atol=0.02)  # equal masses: velocities exchanged
    assert torch.allclose(velocity.sum(1), velocity.sum(1)[:, :1].expand(-1, 1600), atol=0.05)  # momentum kept
    assert (first[:, 1].abs() < 1e-3).all() and (first[:, 0].abs() > 0.3).all()
    gap = (x[:, 1] - x[:, 0]).abs() - half.sum(1)
    assert gap.min() > -1e-3 and gap.amin(1).max() < 0.05  # they touch, and never overlap
    assert torch.equal(first[:, 0] < 0, state.motion[:, 0] == MOTIONS.index("left"))


def test_a_hidden_object_passes_behind_the_bar_at_a_constant_velocity():
    state = draw(500, (161, 32, 32), scene="behind")
    x, half = state.centre[:, 0, :, 0], half_sizes(state)[:, 0]
    assert x.diff(dim=1).diff(dim=1).abs().max() < 1e-4
    hidden = (x - half >= state.bar[:, :1]) & (x + half <= state.bar[:, 1:])
    assert hidden.any(1).all() and not hidden[:, 0].any() and not hidden[:, -1].any()


def test_a_panning_camera_shifts_what_is_still():
    state = draw(3000, pans=1.0)
    still = state[state.motion[:, 0] == MOTIONS.index("still")]
    shift = still.centre[:, 0, :, 0] - still.centre[:, 0, :1, 0]
    assert torch.allclose(shift, -still.pan[:, None] * torch.linspace(0, TICKS, 17), atol=1e-4)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_make_state_shows_what_it_is_asked_for():
    state = make_state(shape="ring", colour="orange", size="large", motion="orbits", background="navy", seed=1)
    tables = ((SHAPES, state.shape), (COLOURS, state.colour), (SIZES, state.size), (MOTIONS, state.motion))
    names = [table[index[0, 0]] for table, index in tables]
    assert names == ["ring", "orange", "large", "orbits"] and BACKGROUNDS[state.background[0]] == "navy"
    assert (state.shape[:, 1] == -1).all()


RANDOM = {
    "scene": [0, 2, 0, 0, 3, 0, 3, 0, 0, 0, 0, 0],
    "motion": [3, 1, 2, 8, 1, 4, 2, 5, 6, 3, 7, 5],
    "centre": [
        (15.567, 10.768), (20.281, 19.742), (12.492, 13.249), (9.631, 10.398), (16.0, 9.046), (11.58, 17.025),
        (16.0, 22.003), (7.22, 10.287), (12.247, 21.875), (11.089, 20.577), (9.872, 23.181), (16.448, 13.652),
    ],
}  # fmt: skip
SHOWN = [  # x and y in the first, middle and last frame, then the first and last radius, as this world has always had
    (3, {"size": "small"}, (5.4052, 14.1582, 5.4052, 16.8756, 5.4052, 25.0277, 3.4572, 3.4572)),
    (0, {"shape": "star", "motion": "bounces"}, (18.4139, 11.8132, 18.4139, 21.365, 18.4139, 20.2848, 5.1984, 5.1984)),
    (1, {"size": "large", "motion": "orbits"}, (12.74, 18.7866, 22.8993, 13.7131, 11.7101, 15.6504, 7.3484, 7.3484)),
    (8, {"motion": "shrinks"}, (18.9618, 24.188, 18.9618, 24.188, 18.9618, 24.188, 5.2407, 2.4799)),
]


@pytest.mark.parametrize(("seed", "names", "expected"), SHOWN)
def test_a_seed_gives_the_clip_that_it_always_gave(seed, names, expected):
    state = make_state(seed=seed, **names)
    path, radius = state.centre[0, 0], state.radius[0, 0]
    found = torch.cat((path[0], path[8], path[16], radius[[0, 16]]))
    assert torch.allclose(found, torch.tensor(expected), atol=2e-4)
    assert state.pan == 0 and state.bar.isnan().all() and state.scene == 0
    assert not state.centre[:, 1].any() and not state.radius[:, 1].any()


def test_the_random_clips_of_a_seed_are_those_it_always_gave():
    """The shipped weights, lessons and records were made from them."""
    config = WorldConfig(pair_fraction=0.3, pan_fraction=0.3)
    state = sample_state(12, config, orbit_weight=3.0, generator=torch.Generator().manual_seed(7))
    assert state.scene.tolist() == RANDOM["scene"] and state.motion[:, 0].tolist() == RANDOM["motion"]
    assert torch.allclose(state.centre[:, 0, 8], torch.tensor(RANDOM["centre"]), atol=1e-3)


def test_a_unit_and_a_tick_do_not_depend_on_how_it_is_filmed():
    assert pixels_per_unit(32, 48) == 1 and pixels_per_unit(128, 64) == 2
    assert tick_times(17).tolist() == list(range(17)) and tick_times(1).tolist() == [0]
    assert torch.equal(tick_times(33)[::2], tick_times(17))
    assert torch.equal(tick_times(33, 32.0), torch.arange(33.0)) and tick_times(9, 32.0)[-1] == 32


# --- the world's own time --------------------------------------------------------------------------------------------


LONG = WorldConfig(frames=321, duration=32.0)  # a tenth of a tick from frame to frame


def lasting(motion: str, config: WorldConfig = LONG, n: int = 40) -> State:
    return cat_states([make_state(config, motion=motion, size="small", seed=seed) for seed in range(n)])


def test_twice_the_frames_are_twice_the_rate_or_twice_the_time():
    plain, rate, time = (make_state(c, motion="orbits") for c in (WorldConfig(), WorldConfig(frames=33), LONG))
    assert torch.allclose(rate.centre[:, :, ::2], plain.centre, atol=1e-4)
    assert torch.allclose(time.centre[:, :, :161:10], plain.centre, atol=1e-4)  # the same, and then more of it


def test_in_a_longer_clip_an_orbit_turns_as_fast_and_farther():
    for config, turns in ((WorldConfig(frames=161), (0.65, 1.0)), (LONG, (1.3, 2.0))):
        steps = lasting("orbits", config).centre[:, 0].diff(dim=1)
        angle = torch.atan2(steps[..., 1], steps[..., 0]).diff(dim=1)
        turned = ((angle + torch.pi) % (2 * torch.pi) - torch.pi).sum(1).abs() / (2 * torch.pi)
        assert turned.min() > turns[0] - 0.02 and turned.max() < turns[1] + 0.02


def test_in_a_longer_clip_a_ball_bounces_again_each_time_with_its_share():
    state = lasting("bounces")
    gap = 32 - MARGIN - (state.centre[:, 0, :, 1] + half_sizes(state)[:, 0])
    assert gap.min() > -1e-3
    falling = gap.diff(dim=1) < 0
    impacts = [(falling[i, :-1] & ~falling[i, 1:]).nonzero()[:, 0] + 1 for i in range(len(gap))]
    assert all(2 <= len(found) <= 4 for found in impacts)
    tops = [gap[i, a:b].max() for i, found in enumerate(impacts) for a, b in [found[:2].tolist()]]
    shares = [float((top / gap[i, 0]).sqrt()) for i, top in enumerate(tops)]  # speeds go as roots of heights
    flights = [float(found[1] - found[0]) / 20 / float(found[0]) * 10 for found in impacts]  # half of it is e hit
    assert all(0.79 < share < 0.96 for share in shares)
    assert all(abs(share - flight) < 0.03 for share, flight in zip(shares, flights, strict=True))


def test_a_ball_that_has_bounced_often_enough_lies_on_the_floor():
    one = torch.ones(1, 1)
    fallen = bounce(torch.linspace(0, 1000, 2000), 9 * one, 4 * one, 0.5 * one)
    assert (fallen[0, -1000:] == 9).all() and fallen.max() <= 9 + 1e-4


def test_what_moves_straight_keeps_its_speed_until_the_edge_would_be_reached():
    for motion, axis in (("right", 0), ("down", 1)):
        plain, longer = (lasting(motion, config) for config in (WorldConfig(frames=161), LONG))
        speed = {}
        for name, state in (("plain", plain), ("longer", longer)):
            way = (state.centre[:, 0, -1] - state.centre[:, 0, 0])[:, axis]
            speed[name] = way / (16 if name == "plain" else 32)
        room = 32 - 2 * half_sizes(plain)[:, 0, 0] - 2 * MARGIN
        expected = torch.minimum(speed["plain"], room / 32)
        assert torch.allclose(speed["longer"], expected, atol=1e-4)


def test_a_shorter_clip_shows_the_whole_motion_faster():
    for motion in MOTIONS:
        short, plain = (lasting(motion, WorldConfig(duration=d), n=8) for d in (8.0, 16.0))
        assert torch.allclose(short.centre, plain.centre, atol=1e-4) and torch.equal(short.radius, plain.radius)


@pytest.mark.parametrize("duration", [4.0, 24.0, 32.0, 64.0])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40)])
def test_nothing_leaves_the_canvas_however_long_a_clip_lasts(duration, height, width):
    config = WorldConfig(frames=65, height=height, width=width, duration=duration, pair_fraction=0.4, pan_fraction=0.3)
    state = sample_state(400, config, orbit_weight=3.0, generator=torch.Generator().manual_seed(1))
    unit = pixels_per_unit(height, width)
    there = (state.shape >= 0)[:, :, None, None]
    low, high = (state.centre + sign * half_sizes(state)[..., None] for sign in (-1, 1))
    edge = torch.tensor([width / unit, height / unit])
    assert ((low > MARGIN - 1e-3) | ~there).all() and ((high < edge - MARGIN + 1e-3) | ~there).all()


@pytest.mark.parametrize("name", ["shape", "colour", "size", "motion", "background"])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match=r"'plaid' is not in this world; use one of (circle|red|small|still|black), "):
        make_state(**{name: "plaid"})


def test_another_thing_than_a_world_or_a_generator_is_refused(as_a_user):
    for draw in (sample_state, lambda *given: make_state(config=given[1])):
        with pytest.raises(InputError, match=r"config='x' is no world; use WorldConfig\("):
            draw(1, "x")
    with pytest.raises(InputError, match=r"generator=3 draws nothing; use torch.Generator\(\)"):
        sample_state(1, generator=3)


def test_bad_requests_are_refused():
    with pytest.raises(InputError, match="n=0 clips cannot be drawn; ask for at least 1"):
        sample_state(0)
    with pytest.raises(InputError, match="split='test' is unknown; use train, heldout or all"):
        sample_state(1, split="test")
    with pytest.raises(InputError, match="scene='crowd' is unknown; use one of single, pair, collides, behind"):
        sample_state(1, scene="crowd")
    with pytest.raises(InputError, match="frames=0 must be a whole number from 1 to 4,096"):
        WorldConfig(frames=0)
    with pytest.raises(InputError, match=r"pair_fraction=0.8, pan_fraction=0.3: shares must add up"):
        WorldConfig(pair_fraction=0.8, pan_fraction=0.3)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_orbit_weight_is_how_often_orbits_come_against_another_motion(weight):
    state = sample_state(20_000, orbit_weight=weight, generator=torch.Generator().manual_seed(3))
    table = combinations("train")
    orbits = MOTIONS.index("orbits")
    seen, other = (state.motion[:, 0] == orbits).sum(), (state.motion[:, 0] != orbits).sum()
    rows, rest = (table[:, 2] == orbits).sum(), (table[:, 2] != orbits).sum()
    assert float(seen / rows / (other / rest)) == pytest.approx(weight, rel=0.08)


@pytest.mark.parametrize("n", [-1, 2.0, True, "3", None, 10**9, pytest.param(10**5000, id="huge")])
def test_a_number_of_clips_that_cannot_be_drawn_is_refused(n, as_a_user):
    with pytest.raises(InputError, match="clips cannot be drawn; ask for at least 1, and at most 986,895 of"):
        sample_state(n)
    assert MOST_FRAMES // 17 == 986_895


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), "3"])
def test_a_weight_that_is_none_is_refused(weight, as_a_user):
    with pytest.raises(InputError, match="is no weight; use 0 or more"):
        sample_state(1, orbit_weight=weight)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "x"])
def test_a_seed_that_is_none_is_refused(seed, as_a_user):
    with pytest.raises(InputError, match="must be a whole number from 0 to"):
        make_state(seed=seed)


def test_no_states_cannot_be_joined():
    with pytest.raises(InputError, match="there are no states to join; give at least one"):
        cat_states([])


@pytest.mark.parametrize("name", ["scene", "shape", "colour", "size", "motion", "background"])
@pytest.mark.parametrize("index", [-2, 99])
def test_an_index_that_names_nothing_is_refused(name, index):
    state = make_state()
    state = replace(state, **{name: torch.full_like(getattr(state, name), index)})
    with pytest.raises(InputError, match=f"state.{name} reaches from {index} to {index}, but its indices go from"):
        check_state(state)


def test_an_object_without_a_colour_is_refused_where_colours_are_needed():
    state = replace(make_state(), colour=torch.full((1, 2), -1))
    check_state(state, "motion")
    with pytest.raises(InputError, match="state.colour is -1 for an object that is there; give it an index from 0"):
        check_state(state, "colour")
