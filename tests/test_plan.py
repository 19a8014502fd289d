"""The plan's figures against closed forms, and against models that are really built."""

import math
import operator
from dataclasses import replace

import pytest
import torch
from torch import nn

from sora_edu import cli
from sora_edu.config import COMPACT, TINY, TINY_SIZES, TrainConfig
from sora_edu.diffusion.flow import flow_loss
from sora_edu.errors import InputError
from sora_edu.model.dit import TextToVideo
from sora_edu.model.scaling import count_macs, parameters_by_part
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.model.vae import VideoVAE, vae_loss
from sora_edu.train.devices import DEVICES, Device, find_device, measured_cpu
from sora_edu.train.optimiser import make_optimisers
from sora_edu.train.plan import (
    Costs,
    dit_costs,
    duration,
    make_plan,
    plan_stage,
    report,
    saved_bytes,
    steps_for,
    vae_costs,
)

COSTS = Costs(
    config=TrainConfig(steps=10, batch=8, lr=0.1), parameters=1000, muon=600, macs=7_000, tokens=5, kept=300, held=9
)
DEVICE = Device(peak=1e6, share=0.5, memory=1e9, bandwidth=1e3, least=0.0)


@pytest.mark.parametrize("preset", [TINY, TINY_SIZES, COMPACT], ids=["tiny", "tiny-sizes", "compact"])
def test_the_transformers_costs_are_the_closed_form(preset):
    costs, text = dit_costs(preset), preset.text
    d, words, vocabulary = text.width, text.max_tokens, len(Tokenizer())
    grid = (5, *(8 // side for side in preset.dit.patch[1:]))
    linear = 12 * d * d  # qkv and out, and an MLP of four times the width
    text_macs = text.depth * (words * linear + 2 * words**2 * d)
    norms = 2 * 2 * d + 2 * d // text.heads
    text_parameters = vocabulary * d + text.depth * (linear + 3 * d + d + 4 * d + d + norms) + 2 * d
    assert costs.tokens == math.prod(grid)
    assert costs.macs == count_macs(preset.dit, grid, words=words) + text_macs
    assert costs.parameters == sum(parameters_by_part(preset.dit).values()) + text_parameters
    latents = [preset.latent_shape, *(preset.vae.latent_shape(*size) for size in preset.other_sizes)]
    clips = [preset.clips] + [preset.clips // 5] * len(preset.other_sizes)
    assert costs.held == 4 * costs.parameters + 2 * sum(map(operator.mul, clips, map(math.prod, latents)))


def test_the_costs_are_those_of_models_that_are_really_built():
    vae, model = VideoVAE(TINY.vae), TextToVideo(TINY.dit, TINY.text, len(Tokenizer()))
    for costs, module in ((vae_costs(TINY), vae), (dit_costs(TINY), model)):
        assert costs.parameters == sum(p.numel() for p in module.parameters())
        optimisers = make_optimisers(module, costs.config)
        owned = {type(o).__name__: sum(p.numel() for g in o.param_groups for p in g["params"]) for o in optimisers}
        assert owned.get("Muon", 0) == costs.muon and owned["AdamW"] == costs.parameters - costs.muon


def test_a_linear_layer_keeps_what_its_backward_pass_needs():
    layer, x = nn.Linear(3, 5), torch.zeros(2, 3)
    assert saved_bytes(lambda: layer(x).sum(), layer) == 4 * 2 * 3  # its input, and not its weight
    assert saved_bytes(lambda: (layer(x) ** 2 + layer(x) ** 2).sum(), layer) == 4 * (2 * 3 + 2 * 2 * 5)


def test_activations_on_meta_are_those_of_a_real_run():
    vae = VideoVAE(TINY.vae)
    video, z = torch.zeros(2, 3, 17, 32, 32), torch.zeros(2, 16, 5, 8, 8)
    real = saved_bytes(lambda: vae_loss(vae, video, kl_weight=1.0, noise=z)["loss"], vae)
    assert real == pytest.approx(2 * vae_costs(TINY).kept, rel=0.02)
    model = TextToVideo(TINY.dit, TINY.text, len(Tokenizer()))
    ids, mask, t = torch.zeros(2, 32, dtype=torch.long), torch.ones(2, 32, dtype=torch.bool), torch.zeros(2)
    real = saved_bytes(lambda: flow_loss(lambda x, t: model(x, t, ids, mask), z, t=t, eps=z), model)
    assert real == pytest.approx(2 * dit_costs(TINY).kept, rel=0.3)  # another attention kernel


def test_memory_and_time_closed_form():
    plan = plan_stage(COSTS, DEVICE)
    assert plan.memory == {
        "weights": 4000,
        "gradients": 4000,
        "optimiser": 8 * 400 + 4 * 600,
        "EMA": 4000,
        "activations": 8 * 300,
        "data and sampler": 9,
    }
    assert plan.compute == pytest.approx(8 * 3 * 2 * 7000 / 0.5e6) and plan.exchange == 0
    assert plan.clips == pytest.approx(8 / plan.compute) and plan.tokens == pytest.approx(5 * plan.clips)
    assert plan.seconds == pytest.approx(10 * plan.compute)


def test_several_devices_share_the_batch_and_with_fsdp_the_model():
    one, ddp, fsdp = (plan_stage(COSTS, DEVICE, gpus=n, fsdp=f) for n, f in ((1, False), (4, False), (4, True)))
    assert ddp.compute == fsdp.compute == one.compute / 4
    assert ddp.memory == one.memory | {"activations": 2 * 300}
    assert fsdp.memory["weights"] == 1000 and fsdp.memory["EMA"] == 1000 + 4000
    assert fsdp.memory["optimiser"] == 8 * 400 / 4 + 4 * 600
    assert ddp.exchange == pytest.approx(2 * 3 / 4 * 4000 / 1e3) and fsdp.exchange == pytest.approx(1.5 * ddp.exchange)


def test_a_small_step_takes_its_least_time():
    assert plan_stage(COSTS, replace(DEVICE, least=9.0)).compute == 9


def test_tokens_set_the_steps_of_the_transformer():
    assert steps_for(4000.0, COSTS) == 100 and steps_for(4001.0, COSTS) == 101
    plans = make_plan(TINY, DEVICES["h100"], tokens=80.0 * 64 * 7)
    assert plans["transformer"].steps == 7 and plans["VAE"].steps == TINY.vae_train.steps


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: steps_for(0.0, COSTS), "tokens=0 is no number of tokens"),
        (lambda: steps_for(math.inf, COSTS), "tokens=inf"),
        (lambda: plan_stage(COSTS, DEVICE, gpus=0), "gpus=0 must be at least 1"),
        (lambda: plan_stage(COSTS, DEVICE, gpus=3), "a batch of 8 cannot be shared evenly by 3 processes; use 6 or 9"),
        (lambda: find_device("abacus"), "device 'abacus' is unknown; use cpu, h200, h100"),
        (lambda: find_device("h100", share=0.0), "share=0.0 of the peak must lie above 0"),
        (lambda: find_device("h100", share=1.5), "share=1.5"),
        (lambda: find_device("h100", peak=-1e12), "a peak of -1 TFLOP/s is none"),
        (lambda: find_device("h100", peak=math.nan), "a peak of nan TFLOP/s is none"),
    ],
)
def test_what_cannot_be_planned_is_refused(call, words):
    with pytest.raises(InputError) as refused:
        call()
    assert words in str(refused.value)


def test_the_report_says_what_does_not_fit_and_what_is_assumed():
    plans = {"VAE": plan_stage(COSTS, DEVICE)}
    assert "DOES NOT FIT" not in report(plans, DEVICE)
    text = report(plans, replace(DEVICE, memory=100.0))
    for words in ("DOES NOT FIT", "datasheet", "50% of it in training: assumed", "upper bound", "left out"):
        assert words in text
    assert "share       30% of it in training: given" in report(plans, find_device("h100", share=0.3))


def test_this_machines_processor_is_measured():
    device = measured_cpu((64,))
    assert (
        device.peak > 1e6 and "measured just now" in device.peak_from and "measured on two cores" in device.share_from
    )


@pytest.mark.parametrize(("seconds", "text"), [(3.0, "3.0 s"), (150.0, "2.5 min"), (9e3, "2.5 h"), (216e3, "2.5 days")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_command_prints_the_table(capsys):
    cli.main(["plan", "--preset", "compact", "--gpus", "8", "--device", "h100", "--tokens", "5e9"])
    out = capsys.readouterr().out
    assert out.startswith("preset compact on 8 x h100, DDP\n")
    steps = math.ceil(5e9 / (256 * 320))
    assert f"{steps:,}" in out and "tokens a second" in out
    with pytest.raises(SystemExit):
        cli.main(["plan", "--gpus", "7"])
    assert capsys.readouterr().err == "error: a batch of 8 cannot be shared evenly by 7 processes; use 7 or 14\n"
    with pytest.raises(SystemExit):
        cli.main(["plan", "--batch", "0"])
    assert capsys.readouterr().err == "error: --batch 0 must be at least 1\n"
