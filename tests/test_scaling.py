import pytest
import torch

from sora_edu.config import DiTConfig
from sora_edu.errors import InputError
from sora_edu.model.dit import VideoDiT
from sora_edu.model.image_dit import DIT_PATCHES, DIT_SIZES, ImageDiT, ImageDiTConfig, dit_config
from sora_edu.model.scaling import (
    PARTS,
    count_macs,
    count_parameters,
    flops,
    macs_by_part,
    measure_macs,
    parameters_by_part,
)
from sora_edu.model.text import TextState

PUBLISHED = {  # DiT, table 4: GMACs (there "Gflops")
    **{"S/8": 0.36, "S/4": 1.41, "S/2": 6.06, "B/8": 1.42, "B/4": 5.56, "B/2": 23.01},
    **{"L/8": 5.01, "L/4": 19.70, "L/2": 80.71, "XL/8": 7.39, "XL/4": 29.05, "XL/2": 118.64},
}
PARAMETERS = {"S": 33, "B": 130.5, "L": 458, "XL": 675.1}  # million


def on_meta(config: ImageDiTConfig) -> ImageDiT:
    """A model without numbers in it."""
    with torch.device("meta"):
        return ImageDiT(config)


def image_inputs(config: ImageDiTConfig, b: int = 1, device: str = "meta"):
    """Something of the right shapes."""
    return (
        torch.zeros(b, config.channels, *config.size, device=device),
        torch.zeros(b, device=device),
        torch.zeros(b, dtype=torch.long, device=device),
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_macs_are_the_published_ones(name):
    assert count_macs(dit_config(name)) / 1e9 == pytest.approx(PUBLISHED[name], rel=3e-3, abs=5e-3)


@pytest.mark.parametrize("name", DIT_SIZES)
def test_parameters_are_the_published_ones(name):
    got = count_parameters(on_meta(dit_config(f"{name}/2"))) / 1e6
    assert got == pytest.approx(PARAMETERS[name], abs=0.06 if name in ("B", "XL") else 0.5)


def test_the_two_numbers_that_everybody_quotes():
    b, xl = dit_config("B/2"), dit_config("XL/2")
    assert sum(parameters_by_part(xl).values()) == 675_129_632
    assert sum(parameters_by_part(b).values()) == 130_512_416
    assert round(count_macs(b) / 1e9, 2) == 23.01 and round(count_macs(xl) / 1e9, 1) == 118.6
    assert round(count_macs(xl) / count_macs(b), 2) == 5.16


def test_smaller_patches_cost_sixteen_times_the_macs_and_no_parameters():
    small, large = dit_config("XL/8"), dit_config("XL/2")
    parameters = [sum(parameters_by_part(c).values()) for c in (small, large)]
    assert parameters[1] / parameters[0] == pytest.approx(1, abs=1e-3)
    assert count_macs(large) / count_macs(small) == pytest.approx(16.05, abs=0.01)


IMAGES = [
    ImageDiTConfig(depth=2, width=24, heads=3, patch=2, size=(4, 6), channels=3, classes=5),
    ImageDiTConfig(depth=1, width=16, heads=2, patch=1, size=(3, 2), channels=2, learn_sigma=False, mlp_ratio=2.5),
]


@pytest.mark.parametrize("config", IMAGES)
def test_closed_form_equals_the_image_model(config):
    model = ImageDiT(config)
    assert sum(parameters_by_part(config).values()) == count_parameters(model)
    assert measure_macs(model, *image_inputs(config, device="cpu")) == count_macs(model)
    assert measure_macs(model, *image_inputs(config, b=3, device="cpu")) == 3 * count_macs(config)


@pytest.mark.parametrize(("name", "patch"), [(name, patch) for name in ("S", "XL") for patch in DIT_PATCHES])
def test_closed_form_equals_the_count_on_the_meta_device(name, patch):
    config = dit_config(f"{name}/{patch}")
    model = on_meta(config)
    assert measure_macs(model, *image_inputs(config)) == count_macs(config)
    assert sum(parameters_by_part(config).values()) == count_parameters(model)


@pytest.mark.parametrize(
    ("config", "shape", "words"),
    [
        (DiTConfig(), (5, 8, 8), 7),
        (
            DiTConfig(channels=3, width=24, depth=3, heads=2, patch=(2, 1, 2), mlp_ratio=3.0, text_width=10),
            (4, 3, 6),
            2,
        ),
    ],
)
def test_closed_form_equals_the_video_model(config, shape, words):
    model = VideoDiT(config)
    text = TextState(
        torch.zeros(1, words, config.text_width), torch.ones(1, words) > 0, torch.zeros(1, config.text_width)
    )
    x = torch.zeros(1, config.channels, *shape)
    assert sum(parameters_by_part(config).values()) == count_parameters(model)
    assert measure_macs(model, x, torch.zeros(1), text) == count_macs(model, model.grid(x), words=words)


def test_every_hook_on_a_linear_layer_sees_its_share():
    """A second count by other means: hooks on the linear layers, and the attention by hand."""
    config, seen = IMAGES[0], []
    model = ImageDiT(config)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(lambda m, _in, out: seen.append(out.numel() * m.in_features))
    model(*image_inputs(config, device="cpu"))
    n = config.grid[0] * config.grid[1]
    assert sum(seen) + config.depth * 2 * n * n * config.width == count_macs(config)


def test_parts_have_names_and_add_up():
    for config in (IMAGES[0], DiTConfig()):
        assert tuple(macs_by_part(config, (2, 2))) == tuple(parameters_by_part(config)) == PARTS
    assert macs_by_part(IMAGES[0])["cross-attention"] == parameters_by_part(IMAGES[0])["cross-attention"] == 0


def test_fixed_positions_are_not_trained():
    model = on_meta(dit_config("B/2"))
    assert count_parameters(model) - count_parameters(model, trained_only=True) == 256 * 768


def test_twice_the_tokens_are_four_times_the_pairs_and_twice_the_rest():
    few, many = macs_by_part(DiTConfig(), (5, 4, 4)), macs_by_part(DiTConfig(), (10, 4, 4))
    assert many["pairs"] == 4 * few["pairs"] and many["mlp"] == 2 * few["mlp"]
    assert many["modulation"] == few["modulation"]


def test_a_training_step_is_three_forwards_of_two_flops():
    assert flops(7) == 14 and flops(7, training=True) == 42


@pytest.mark.parametrize("grid", [None, (), (0, 2, 2)])
def test_a_video_model_needs_a_grid(grid):
    with pytest.raises(InputError, match=r"pass \(nf, nh, nw\)"):
        count_macs(DiTConfig(), grid)
