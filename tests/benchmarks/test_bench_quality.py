"""Time to quality: both recipes get the same clips and minutes, and the curve says when a share was reached."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sora_edu import cli
from sora_edu.bench import quality
from sora_edu.bench.quality import OURS, RECIPES, TEXTBOOK, TextbookModel, minutes_to, settings_of
from sora_edu.config import TINY, TINY_SIZES
from sora_edu.errors import InputError
from sora_edu.model.tokenizer import Tokenizer

pytest.importorskip("timm")


@pytest.fixture(scope="module")
def textbook():
    torch.manual_seed(0)
    preset = replace(TINY, dit=replace(TINY.dit, width=48, depth=2, heads=2))
    return TextbookModel(preset, len(Tokenizer()))


def ask(model, *prompts: str, seed: int = 0):
    ids, mask = Tokenizer().encode(list(prompts), max_tokens=TINY.text.max_tokens)
    x_t = torch.randn(1, *TINY.latent_shape, generator=torch.Generator().manual_seed(seed)).expand(
        len(ids), -1, -1, -1, -1
    )
    return model(x_t, torch.full((len(ids),), 0.5), ids, mask)


def test_the_textbook_starts_at_nothing_and_then_hears_time_and_words(textbook):
    assert not ask(textbook, "a red circle falls").any()
    for parameter in textbook.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    with torch.no_grad():
        one, other = ask(textbook, "a red circle falls", "a blue star falls")
        assert not torch.allclose(one, other, atol=1e-3)
        assert torch.allclose(one, ask(textbook, "a red circle falls")[0], atol=1e-5)  # whatever its neighbours are


def test_all_recipes_train_on_the_same_kind_of_clips():
    for name, recipe in RECIPES.items():
        preset = settings_of(recipe, TINY_SIZES, steps=40)
        assert preset.other_sizes == () and preset.known_frames == 0 == preset.dit_train.image_fraction
        assert (preset.dit_train.muon_lr > 0) == recipe.muon and preset.dit_train.steps == 40, name
    ours, textbook = (settings_of(RECIPES[name], TINY_SIZES, steps=40) for name in (OURS, TEXTBOOK))
    assert (ours.times, ours.shift) == (TINY.times, TINY.shift) and (textbook.times, textbook.shift) == ("uniform", 1.0)
    assert replace(textbook, times=ours.times, shift=ours.shift, dit_train=ours.dit_train) == ours


def test_the_textbook_runs_in_fp32_whatever_the_loop_turns_on():
    seen = []

    def loss_fn(module, generator):
        seen.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        return {}

    with torch.autocast("cpu", torch.bfloat16):
        for fn in (loss_fn, quality.in_fp32(loss_fn, torch.device("cpu"))):
            fn(nn.Identity(), torch.Generator())
    assert seen == [torch.bfloat16, torch.float32]


def test_minutes_to_a_share_lie_on_the_line_between_two_looks():
    curve = [{"minutes": m, "all": {"value": v}} for m, v in ((2.0, 0.4), (4.0, 0.8), (6.0, 0.92))]
    assert minutes_to(curve, 0.2) == pytest.approx(1.0) and minutes_to(curve, 0.8) == pytest.approx(4.0)
    assert minutes_to(curve, 0.86) == pytest.approx(5.0) and minutes_to(curve, 0.95) is None


def test_the_command_trains_both_recipes_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quality, "LOOKS", 2)
    monkeypatch.setattr(quality, "PROBE", 2)
    for _ in range(2):
        cli.main(["bench", "--suite", "quality", "--smoke"])
        assert capsys.readouterr().out.startswith("ours, seed 0: 90 % never")
        monkeypatch.setattr(quality, "time_a_step", lambda *a, **o: pytest.fail("timed again"))
    assert not list(tmp_path.glob("**/quality.json"))
    with pytest.raises(InputError, match="recipe 'muon' is unknown; use some of ours, textbook"):
        quality.train_all(only=("muon",))


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in (OURS, TEXTBOOK)])
def test_every_other_recipe_takes_a_step(name, tmp_path):
    pipe = quality.Pipeline.load("tiny")
    stage = replace(pipe.preset.dit_train, batch=2)
    pipe.preset = replace(pipe.preset, clips=8, steps=1, dit_train=stage)
    row = quality.train(name, pipe, tmp_path, minutes=0.0, n=1, seed=0, compiled=False)
    assert row["name"] == name and len(row["curve"]) == 8 and row["curve"][-1]["all"]["n"] == 1
