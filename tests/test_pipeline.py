import copy
import warnings
from dataclasses import replace

import jaxtyping
import pytest
import torch

from sora_edu.checkpoint import save_tensors, shipped_checkpoints
from sora_edu.config import TINY, DiTConfig, TextConfig, VAEConfig
from sora_edu.diffusion.sampling import heun
from sora_edu.errors import CheckpointError, InputError, PromptError, UnknownWordWarning
from sora_edu.model.dit import TextToVideo
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.model.vae import VideoVAE
from sora_edu.pipeline import Pipeline, model_metadata, preset_from_json


@pytest.fixture
def unchecked():
    """Switch the tests' shape checks off, so that the library's own message is seen, as a user sees it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.load("tiny")


def test_shapes_range_and_type(pipe):
    clips = pipe(["a red circle falls", "a blue star grows"], steps=2)
    assert clips.shape == (2, 3, 17, 32, 32) and clips.dtype == torch.float32
    assert clips.min() >= -1 and clips.max() <= 1


def test_same_seed_same_clip_other_seed_other_clip(pipe):
    first, again, other = (pipe("a red circle falls", steps=2, seed=s) for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_clip_starts_from_its_own_noise_whatever_its_neighbours(pipe):
    seen = {}
    for prompts in (["a red circle falls"], ["a red circle falls", "a blue star grows"]):
        pipe(prompts, steps=1, callback=lambda step, t, x_t, x_0: seen.setdefault(len(x_t), x_t[0].clone()))
    assert torch.equal(seen[1], seen[2])


@pytest.mark.parametrize(("frames", "size"), [(1, (32, 32)), (9, (32, 48)), (21, (40, 24))])
def test_any_grid_can_be_sampled(pipe, frames, size):
    assert pipe("a red circle falls", frames=frames, size=size, steps=1).shape == (1, 3, frames, *size)


def test_a_prompt_steers_and_scale_zero_does_not(pipe):
    a, b = (pipe(p, steps=2, cfg_scale=3.0) for p in ("a red circle falls", "a blue square grows"))
    assert (a - b).abs().mean() > 0.01
    a, b = (pipe(p, steps=2, cfg_scale=0.0) for p in ("a red circle falls", "a blue square grows"))
    torch.testing.assert_close(a, b)


def test_another_sampler_fits_in(pipe):
    passes = []
    pipe("a red circle falls", steps=3, sampler=heun, callback=lambda step, *rest: passes.append(step))
    assert passes == [0, 1, 2]


def test_pixels_of_0_to_255_are_not_reconstructed(pipe):
    with pytest.raises(InputError, match=r"the video reaches 200, not \[-1, 1\]; from 0..255 use x / 127.5 - 1"):
        pipe.reconstruct(torch.full((1, 3, 9, 32, 32), 200.0))


def test_reconstruct_keeps_the_shape(pipe):
    video = torch.rand(2, 3, 9, 32, 40) * 2 - 1
    assert pipe.reconstruct(video).shape == video.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 16}, "frames=16 is not 1 . a multiple of 4; use 13 or 17"),
        ({"frames": 0}, "0 pixels"),
        ({"size": (30, 32)}, "height=30 is not a positive multiple of 8; use 24 or 32"),
        ({"size": (32, 4)}, "width=4 is not a positive multiple of 8; use 8"),
        ({"size": (1 << 12, 1 << 12)}, "use 1 to 4,194,304"),
        ({"steps": 0}, "steps=0"),
        ({"cfg_scale": -1.0}, "cfg_scale=-1.0"),
    ],
)
def test_sizes_and_options_that_do_not_fit_are_refused(pipe, options, message):
    with pytest.raises(InputError, match=message):
        pipe("a red circle falls", **options)


WRONG = [
    *[
        ({"size": size}, "size=.* must be 2 numbers, each a whole number")
        for size in (32, (32,), (), ("a", 3), "32x32")
    ],
    *[({"seed": seed}, f"seed={seed!r} must be a whole number from 0 to") for seed in (-1, 2**40, "x", 1.0, True)],
    *[({"frames": frames}, f"frames={frames!r} must be a whole number") for frames in ("x", True, 17.0)],
    *[({"steps": steps}, f"steps={steps!r} is not a whole number") for steps in ("x", True, 2.0, 10**9)],
    *[({"cfg_scale": scale}, f"cfg_scale={scale!r} must be a number from 0 to 100") for scale in ("x", True, 1e9)],
    *[({name: float(value)}, f"{name}={value}") for name in ("steps", "cfg_scale", "seed") for value in ("nan", "inf")],
]


def test_guidance_leads_away_from_the_negative_prompt(pipe):
    prompt, seen = "a red circle falls", {}
    plain = pipe(prompt, steps=2, cfg_scale=1.0)
    for negative in (prompt, "a blue star grows", None):
        seen[negative] = pipe(prompt, steps=2, cfg_scale=3.0, negative=negative)
    assert (seen[prompt] - plain).abs().mean() < 0.01  # away from itself is nowhere
    assert (seen["a blue star grows"] - seen[None]).abs().mean() > 0.01


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"negative": "a star", "cfg_scale": 1.0}, InputError, "negative='a star' does nothing at cfg_scale=1.0"),
        ({"negative": ""}, PromptError, "empty"),
        ({"negative": 5}, InputError, "negative=5 must be text"),
    ],
)
def test_a_negative_prompt_that_cannot_work_is_refused(pipe, as_a_user, options, error, message):
    with pytest.raises(error, match=message):
        pipe("a red circle falls", steps=1, **options)


def test_a_callback_that_is_no_function_is_refused(pipe, as_a_user):
    with pytest.raises(InputError, match=r"callback=5 is no function; give one of \(step, t, x_t, x_0_hat\), or none"):
        pipe("a red circle falls", steps=1, callback=5)


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_options_of_another_type_are_refused(pipe, unchecked, options, message):
    with pytest.raises(InputError, match=message):
        pipe("a red circle falls", **{"steps": 1, **options})


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "there is no prompt; give at least one"),
        (None, "prompts=None must be a text or a list of texts"),
        (5, "prompts=5 must be"),
        ([None], "a prompt is text, but got NoneType"),
    ],
)
def test_what_is_no_prompt_is_refused(pipe, unchecked, prompts, message):
    with pytest.raises(PromptError, match=message):
        pipe(prompts, steps=1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 1, 8, 8), "4 axes instead of"),
        ((1, 1, 1, 8, 8), "video"),
        ((0, 3, 1, 8, 8), "empty"),
        ((1, 3, 2, 8, 8), "frames=2 is not 1 . a multiple of 4"),
        ((1, 3, 1, 9, 8), "height=9 is not a positive multiple of 4"),
    ],
)
def test_videos_of_another_shape_are_not_reconstructed(pipe, unchecked, shape, message):
    with pytest.raises(InputError, match=message):
        pipe.reconstruct(torch.zeros(shape))


def test_a_list_is_a_size_too(pipe, unchecked):
    assert pipe("a red circle falls", frames=1, size=[32, 40], steps=1).shape[-2:] == (32, 40)


def test_frames_and_size_are_those_of_the_training_unless_given(pipe):
    world = replace(pipe.preset.world, frames=9, height=24, width=40)
    other = Pipeline(replace(pipe.preset, world=world), pipe.vae, pipe.model, pipe.tokenizer)
    assert other("a red circle falls", steps=1).shape == (1, 3, 9, 24, 40)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="'nope' is unknown; use cpu, cuda or mps"):
        Pipeline.load("tiny", device="nope")


def test_prompts_are_checked_and_unknown_words_named(pipe):
    with pytest.raises(PromptError, match="empty"):
        pipe(["a red circle falls", " "], steps=1)
    with pytest.warns(UnknownWordWarning, match="'wombat'"):
        pipe("a red wombat circle falls", steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe("please show a red circle falling", steps=1)


def test_the_configuration_survives_the_file():
    meta = model_metadata(TINY, Tokenizer())
    assert preset_from_json(meta["preset"]) == TINY


@pytest.mark.parametrize(
    "change", [lambda p: p.pop("dit"), lambda p: p["dit"].update(wings=2), lambda p: p["vae"].update(ft=8)]
)
def test_a_configuration_that_does_not_fit_is_refused(change):
    values = model_metadata(TINY, Tokenizer())["preset"]
    change(values)
    with pytest.raises(CheckpointError, match="does not fit this version"):
        preset_from_json(values)


MINI = replace(
    TINY,
    vae=VAEConfig(channels=4, widths=(8, 8, 8), enc_blocks=1, dec_blocks=1),
    text=TextConfig(width=16, depth=1, heads=2),
    dit=DiTConfig(channels=4, width=24, depth=1, heads=2, text_width=16),
)


@pytest.fixture(scope="module")
def mini() -> tuple[dict, dict]:
    """Weights and metadata of a small, sound model."""
    vae, model = VideoVAE(MINI.vae), TextToVideo(MINI.dit, MINI.text, len(Tokenizer()))
    modules = torch.nn.ModuleDict({"vae": vae, "model": model})
    return modules.state_dict(), model_metadata(MINI, Tokenizer())


def load_changed(mini, path, change) -> Pipeline:
    """Load the small model from a file in which something was changed before its checksum was taken."""
    tensors, meta = {k: v.clone() for k, v in mini[0].items()}, copy.deepcopy(mini[1])
    change(tensors, meta)
    save_tensors(path / "model.safetensors", tensors, meta)
    return Pipeline.load(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_loaded_as_float32(mini, tmp_path, dtype):
    loaded = load_changed(mini, tmp_path, lambda t, m: t.update({k: v.to(dtype) for k, v in t.items()}))
    for part, module in (("vae.", loaded.vae), ("model.", loaded.model)):
        for name, weight in module.state_dict().items():
            assert torch.equal(weight, mini[0][part + name].to(dtype).float())


SETTINGS = [
    ({"dit": {"depth": 10**6}}, "depth=1000000 must be a whole number from 0 to 64"),
    ({"text": {"depth": 10**6}}, "depth=1000000 must be"),
    ({"vae": {"enc_blocks": 10**6}}, "enc_blocks=1000000 must be"),
    ({"dit": {"depth": 64}, "text": {"depth": 64}}, "asks for 134 blocks, but holds [0-9]+ tensors"),
    ({"dit": {"width": 16384, "mlp_ratio": 16.0}}, r"norm_k.weight is \(12,\), expected \(8192,\)"),
    ({"dit": {"heads": 0}}, "heads=0 must be"),
    ({"dit": {"depth": "6"}}, "depth='6' must be"),
    ({"dit": {"depth": True}}, "depth=True must be"),
    ({"dit": {"depth": 10**4000}}, "depth=<13288 bits> must be"),
    ({"dit": {"patch": 2}}, "patch=2 must be"),
    ({"dit": {"patch": [[[1]]]}}, "patch=.* must be"),
    ({"dit": {"mlp_ratio": float("nan")}}, "mlp_ratio=nan must be"),
    ({"dit": {"wings": 2}}, "DiTConfig does not fit this version: unknown settings .'wings'."),
    ({"wings": 2}, "Preset does not fit this version: unknown settings .'wings'."),
    ({"vae": {"widths": [64, 96, -1]}}, "widths=.* must be"),
    ({"text": {"max_tokens": 10**9}}, "max_tokens=1000000000 must be"),
    ({"cfg_scale": "x"}, "cfg_scale='x' must be"),
    ({"shift": None}, "shift=None must be"),
    ({"shift": float("inf")}, "shift=inf must be"),
    ({"vae": []}, "VAEConfig does not fit this version: it is a list"),
    ({"vae": None}, "VAEConfig does not fit this version: it is a NoneType"),
    ({"dit_train": {"steps": None}}, "steps=None must be"),
]


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
def test_settings_from_elsewhere_are_refused(mini, tmp_path, unchecked, settings, message):
    def change(tensors, meta):
        for name, value in settings.items():
            part = meta["preset"].get(name)
            meta["preset"][name] = (
                part | value if isinstance(part, dict) and isinstance(value, dict) and value else value
            )

    with pytest.raises(CheckpointError, match=message):
        load_changed(mini, tmp_path, change)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (5, "list of words"),
        ("abc", "list of words"),
        ([[1]], "list of words"),
        (["a", ""], "list of words"),
        (["a", "a"], "a word comes twice"),
        (["a", "b"], r"embed.weight is .* expected \(5, 16\)"),
    ],
)
def test_a_vocabulary_from_elsewhere_is_refused(mini, tmp_path, words, message):
    with pytest.raises(CheckpointError, match=message):
        load_changed(mini, tmp_path, lambda t, m: m.update(vocabulary=words))


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64, torch.float64, torch.float8_e4m3fn])
def test_weights_of_another_type_are_refused(mini, tmp_path, kind):
    with pytest.raises(CheckpointError, match=f"holds {str(kind)[6:]} in .*; weights are float32, float16 or bfloat16"):
        load_changed(mini, tmp_path, lambda t, m: t.update({k: v.to(kind) for k, v in t.items()}))


@pytest.mark.parametrize("scale", [0, -1, 1e-30, 1e30, float("nan"), float("inf")])
def test_a_scale_that_no_latent_has_is_refused(mini, tmp_path, scale):
    with pytest.raises(CheckpointError, match="latent_scale"):
        load_changed(mini, tmp_path, lambda t, m: t["vae.latent_scale"].fill_(scale))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: t.clear(), "asks for 8 blocks, but holds 0 tensors"),
        (lambda t, m: t.pop("vae.latent_mean"), "missing .'vae.latent_mean'., unexpected ..;"),
        (lambda t, m: t.update(x=torch.ones(1)), "missing .., unexpected .'x'."),
        (
            lambda t, m: t.update({"vae.latent_mean": torch.ones(0)}),
            r"vae.latent_mean is \(0,\), expected \(4, 1, 1, 1\)",
        ),
        (lambda t, m: t["vae.latent_mean"].fill_(float("nan")), "not finite in vae.latent_mean"),
        (lambda t, m: m.update(preset=[]), "Preset does not fit this version: it is a list"),
        (lambda t, m: m["preset"].pop("dit"), "settings .'dit'. are missing"),
        (
            lambda t, m: m["preset"]["dit_train"].pop("steps"),
            "TrainConfig does not fit .* settings .'steps'. are missing",
        ),
        (lambda t, m: m.pop("preset"), "holds no model"),
    ],
)
def test_weights_and_metadata_that_do_not_fit_are_refused(mini, tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        load_changed(mini, tmp_path, change)


def test_settings_of_an_older_version_take_the_defaults(mini, tmp_path):
    assert load_changed(mini, tmp_path, lambda t, m: m["preset"].pop("steps")).preset.steps == TINY.steps


def test_a_file_without_a_model_is_refused(tmp_path):
    save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(1)}, {"step": 1})
    with pytest.raises(CheckpointError, match="holds no model"):
        Pipeline.load(tmp_path / "x.safetensors")


def test_shipped_checkpoints_are_small_enough_to_ship():
    sizes = {name: path.stat().st_size for name, path in shipped_checkpoints().items()}
    assert "tiny" in sizes and all(size <= 48e6 for size in sizes.values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda pipe: pipe("a red circle falls", sampler=3), "sampler=3 is no function; use euler"),
        (lambda pipe: pipe.encode_text(None), "prompts is of type NoneType; give the texts as a list of str"),
        (lambda pipe: pipe.encode_text("a red circle"), "prompts is one str; give a list"),
    ],
)
def test_what_is_no_function_and_what_is_no_text_is_refused(pipe, as_a_user, call, message):
    with pytest.raises(InputError, match=message):
        call(pipe)
