import json
from dataclasses import replace

import pytest
import torch

from sora_edu import config, recipe
from sora_edu.checkpoint import load_tensors
from sora_edu.config import DiTConfig, TextConfig, VAEConfig
from sora_edu.errors import CheckpointError, InputError, TrainingError
from sora_edu.guards import locked
from sora_edu.pipeline import Pipeline
from sora_edu.recipe import cache_captions, choose_preset, shard_states, train
from sora_edu.tokenizer import Tokenizer

MINI = replace(
    config.TINY,
    vae=VAEConfig(channels=4, widths=(8, 8, 8), enc_blocks=1, dec_blocks=1),
    text=TextConfig(width=16, depth=1, heads=2),
    dit=DiTConfig(channels=4, width=24, depth=1, heads=2, text_width=16),
    vae_train=replace(config.TINY.vae_train, steps=3, batch=2, save_every=2, log_every=1),
    dit_train=replace(config.TINY.dit_train, steps=3, batch=4, save_every=2, log_every=1),
    clips=24,
)


@pytest.fixture(autouse=True)
def mini(monkeypatch):
    monkeypatch.setitem(config.PRESETS, "mini", MINI)
    monkeypatch.setattr(recipe, "quick_accuracy", lambda sampler, seed: {"all": 0.0})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.PRESETS, "mini", MINI)
        patch.setattr(recipe, "quick_accuracy", lambda sampler, seed: {"all": 0.0})
        return train("mini", tmp_path_factory.mktemp("run") / "a", compile=False)


def test_one_command_makes_a_model_that_samples(run):
    clip = Pipeline.load(run.parent)("a red circle falls", steps=2)
    assert clip.shape == (1, 3, 17, 32, 32) and clip.abs().max() <= 1


def test_the_run_leaves_metrics_and_strips_of_both_stages(run):
    lines = [json.loads(line) for line in (run.parent / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["stage"] == "vae" and "loss" in line] == [1, 2, 3]
    assert [line["step"] for line in lines if line["stage"] == "dit" and "loss" in line] == [1, 2, 3]
    assert any("psnr" in line for line in lines)
    assert sorted(p.name for p in (run.parent / "samples").iterdir()) == [
        "dit_000003.strip.png",
        "vae_000003.strip.png",
    ]


def test_stopped_in_either_stage_and_resumed_is_bit_exact(run, tmp_path, monkeypatch):
    out = tmp_path / "b"
    for stage, steps in (("vae", 2), ("dit", 2)):
        real = recipe.fit

        def stop(which, *args, real=real, stage=stage, steps=steps, **options):
            if which.name == stage:
                losses, calls = which.losses, []

                def broken(module, generator):
                    calls.append(1)
                    if len(calls) > steps:
                        raise KeyboardInterrupt
                    return losses(module, generator)

                which = replace(which, losses=broken)
            return real(which, *args, **options)

        monkeypatch.setattr(recipe, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            train("mini", out, resume=stage == "dit", compile=False)
        monkeypatch.setattr(recipe, "fit", real)
    resumed, whole = load_tensors(train("mini", out, resume=True, compile=False)), load_tensors(run)
    assert resumed[1] == whole[1]
    assert all(torch.equal(resumed[0][k], v) for k, v in whole[0].items())


def test_a_folder_with_a_run_is_not_overwritten(run):
    before = run.read_bytes()
    with pytest.raises(InputError, match="already holds a run; add --resume"):
        train("mini", run.parent, compile=False)
    assert run.read_bytes() == before


@pytest.mark.parametrize("other", [{"clips": 25}, {"seed": 1}])
def test_resuming_with_other_clips_or_seed_is_refused(run, other):
    with pytest.raises(InputError, match="holds the latents of clips=24 and seed=0; resume with these"):
        train("mini", run.parent, resume=True, compile=False, **other)


def test_a_second_run_in_the_folder_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(TrainingError, match="in use by another run"):
        train("mini", tmp_path, compile=False)


def test_a_training_state_is_no_model(run):
    with pytest.raises(CheckpointError, match="it is a training state; use model.safetensors"):
        Pipeline.load(next(run.parent.glob("dit.state?.safetensors")))


def test_captions_are_cached_in_both_forms_for_the_clips_that_are_drawn():
    ids = cache_captions(MINI, Tokenizer(), seed=0)
    assert ids.shape == (24, 2, 32)
    lengths = (ids != 0).sum(-1)
    assert (lengths[:, 1] > lengths[:, 0]).all()
    assert sum(len(state) for state in shard_states(MINI, 0)) == 24


def test_unknown_presets_and_replaced_lengths():
    with pytest.raises(InputError, match="preset 'huge' is unknown; use one of tiny, compact"):
        choose_preset("huge", vae_steps=None, dit_steps=None, clips=None, batch=None)
    chosen = choose_preset("tiny", vae_steps=7, dit_steps=None, clips=9, batch=5)
    assert (chosen.vae_train.steps, chosen.clips, chosen.vae_train.batch, chosen.dit_train.batch) == (7, 9, 5, 5)
    assert chosen.dit_train.steps == config.TINY.dit_train.steps
