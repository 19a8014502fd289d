"""The recorded runs belong to the shipped VAE; a run in small is resumable, and its losses are the recipe's."""

import argparse
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image as Pillow

from sora_edu.config import TINY, DiTConfig, TextConfig, VAEConfig
from sora_edu.course.lesson_10 import runs as runs_10
from sora_edu.diffusion.flow import sample_times
from sora_edu.errors import InputError
from sora_edu.model.dit import TextToVideo
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.model.vae import VideoVAE
from sora_edu.pipeline import Pipeline
from sora_edu.train.run_folder import same_settings

MINI = replace(
    TINY,
    vae=VAEConfig(channels=4, widths=(8, 8, 8), enc_blocks=1, dec_blocks=1),
    text=TextConfig(width=16, depth=1, heads=2),
    dit=DiTConfig(channels=4, width=24, depth=1, heads=2, text_width=16),
    dit_train=replace(TINY.dit_train, steps=3, batch=4),
    clips=24,
)


def mini_pipeline(*_, **__) -> Pipeline:
    torch.manual_seed(0)
    tokenizer = Tokenizer()
    return Pipeline(MINI, VideoVAE(MINI.vae), TextToVideo(MINI.dit, MINI.text, len(tokenizer)), tokenizer)


def asked(out, record) -> argparse.Namespace:
    return argparse.Namespace(
        checkpoint="tiny", base=2, batch=4, clips=None, n=2, seed=0, device="cpu", out=out, record=record
    )


@pytest.fixture
def small(monkeypatch):
    """Small runs of a small model."""
    monkeypatch.setattr(runs_10.Pipeline, "load", mini_pipeline)
    monkeypatch.setattr(runs_10, "HELD", 6)
    monkeypatch.setattr(runs_10, "RUNS", {"base": 1, "32x": 4, "4x, AdamW alone": 2})


# --- what was recorded ------------------------------------------------------------------------------------------------


def test_the_record_is_of_the_shipped_vae_with_n_intervals_and_command():
    record = runs_10.recorded()
    vae = Pipeline.load("tiny").vae
    assert record["vae"] == runs_10.vae_digest(vae), f"another VAE is shipped; run again: {record['command']}"
    assert f"--base {record['base']}" in record["command"]
    assert [entry["name"] for entry in record["runs"]] == list(runs_10.RUNS)
    for entry in record["runs"]:
        assert entry["steps"] == record["base"] * runs_10.RUNS[entry["name"]]
        assert entry["clips"] == entry["steps"] * record["batch"] and entry["looks"][-1]["step"] == entry["steps"]
        for look in entry["looks"]:
            for kind in ("raw", "ema"):
                share = look[kind]["right"]["all"]
                assert share["n"] >= 16 and 0 <= share["low"] <= share["value"] <= share["high"] <= 1


def test_the_record_is_of_the_full_length():
    record = runs_10.recorded()
    assert (record["base"], record["batch"], record["cached"]) == (64, 32, TINY.clips), (
        "a short record stands in for the real one; run `python -m sora_edu.course.lesson_10.runs`"
    )


def test_longer_runs_are_better():
    runs = {entry["name"]: entry["looks"][-1]["ema"] for entry in runs_10.recorded()["runs"]}
    assert runs["base"]["loss"] > runs["4x"]["loss"] > runs["32x"]["loss"]
    assert runs["32x"]["right"]["all"]["low"] > runs["base"]["right"]["all"]["high"]


def test_the_recorded_files_are_small_and_hold_a_strip_for_each_look():
    assert runs_10.SHEET.stat().st_size + runs_10.RECORD.stat().st_size < 300_000
    record = runs_10.recorded()
    along = runs_10.recorded_strips("32x")
    assert list(along) == [0, *(look["step"] for look in record["runs"][2]["looks"])]
    for clips in along.values():
        assert clips.shape == (len(record["prompts"]), 3, record["frames"], 32, 32) and clips.abs().max() <= 1
    assert list(runs_10.recorded_strips("base")) == [record["base"]]
    with pytest.raises(InputError, match="run='8x' is not recorded; there are base, 4x, 32x"):
        runs_10.recorded_strips("8x")


# --- how it is made ---------------------------------------------------------------------------------------------------


def test_runs_that_were_stopped_go_on_and_give_the_same_record(small, monkeypatch, tmp_path):
    whole = runs_10.make(asked(tmp_path / "whole", tmp_path / "whole.json"))
    real, calls = runs_10.fit, []

    def stop(stage, folder, **options):
        calls.append(stage)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(stage, folder, **options)

    monkeypatch.setattr(runs_10, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        runs_10.make(asked(tmp_path / "cut", tmp_path / "cut.json"))
    cut = runs_10.make(asked(tmp_path / "cut", tmp_path / "cut.json"))
    assert json.dumps(whole) == json.dumps(cut)
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "cut.png").read_bytes()
    long = whole["runs"][1]
    assert [look["step"] for look in long["looks"]] == [4, 8] and long["looks"][-1]["ema"]["right"]["all"]["n"] == 8
    assert whole["strips"] == [
        {"run": "base", "step": 2},
        *({"run": "32x", "step": step} for step in (0, 4, 8)),
        {"run": "4x, AdamW alone", "step": 4},
    ]
    assert whole["runs"][2]["muon_lr"] == 0 < long["muon_lr"]
    assert Pillow.open(tmp_path / "whole.png").size == (5 * 32, 5 * 4 * 32)


def test_other_settings_in_the_same_folder_are_refused(small, tmp_path):
    same_settings(tmp_path / "settings.json", {"base": 2})
    with pytest.raises(InputError, match="holds runs of {'base': 2}, not of {'base': 3}; choose another --out"):
        same_settings(tmp_path / "settings.json", {"base": 3})


def test_held_times_are_spread_as_training_draws_them():
    even = runs_10.held_times(4000, shift=2.0)
    drawn = sample_times(200_000, generator=torch.Generator().manual_seed(0), shift=2.0)
    share = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(even.quantile(share), drawn.quantile(share), atol=0.01, rtol=0)


def test_an_untrained_model_has_a_held_out_loss_of_about_two():
    pipe = mini_pipeline()
    x_0 = torch.randn(8, 4, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    words = pipe.tokenizer.encode(["a red circle falls"] * 8, max_tokens=6)[0]
    first, second = (runs_10.held_loss(pipe.model, x_0, words, shift=2.0) for _ in range(2))
    assert first == second == pytest.approx(2, abs=0.05)


def test_the_digest_changes_with_any_weight_of_the_vae():
    vae = mini_pipeline().vae
    before = runs_10.vae_digest(vae)
    assert before == runs_10.vae_digest(mini_pipeline().vae)
    vae.latent_scale[0] += 1e-3
    assert runs_10.vae_digest(vae) != before


def test_agreement_counts_pairs_that_differ_in_both():
    assert runs_10.agreement([3, 2, 1], [0.1, 0.2, 0.3]) == 1
    assert runs_10.agreement([1, 1, 2], [0.5, 0.4, 0.5]) == 0
