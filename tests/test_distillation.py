import json
from dataclasses import replace

import pytest
import torch

from sora_edu.checkpoint import load_tensors, save_tensors
from sora_edu.config import TINY, DiTConfig, TextConfig, VAEConfig
from sora_edu.diffusion.sampling import euler, time_grid
from sora_edu.errors import InputError
from sora_edu.model.dit import TextToVideo
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.model.vae import VideoVAE
from sora_edu.pipeline import Pipeline, model_metadata
from sora_edu.train import distillation
from sora_edu.train.distillation import record_shard, record_walk, stride_loss, student_preset
from sora_edu.train.options import DistillOptions

MINI = replace(
    TINY,
    vae=VAEConfig(channels=4, widths=(8, 8, 8), enc_blocks=1, dec_blocks=1),
    text=TextConfig(width=16, depth=1, heads=2),
    dit=DiTConfig(channels=4, width=24, depth=1, heads=2, text_width=16),
)


def bent(x, t):
    """A field whose paths bend: a rotation that speeds up with t."""
    return torch.stack((-x[:, 1], x[:, 0]), 1) * (1 + t[:, None])


@pytest.mark.parametrize("strides, steps, shift", [(4, 24, 2.0), (1, 7, 1.0), (3, 12, 5.0), (6, 6, 0.5)])
def test_a_recorded_walk_is_eulers_seen_at_the_times_of_the_coarse_grid(strides, steps, shift):
    noise, seen = torch.randn(5, 2), {}
    end = euler(bent, noise, steps=steps, shift=shift, callback=lambda _, t, x_t, __: seen.update({round(t, 5): x_t}))
    walk = record_walk(bent, noise, strides=strides, steps=steps, shift=shift)
    assert walk.shape == (5, strides + 1, 2)
    for place, t in zip(walk.unbind(1)[:-1], time_grid(strides, shift=shift).tolist(), strict=False):
        assert torch.equal(place, seen[round(t, 5)])
    assert torch.equal(walk[:, -1], end)


@pytest.mark.parametrize("strides, steps", [(4, 25), (0, 4), (5, 4)])
def test_strides_that_do_not_divide_the_steps_are_refused(strides, steps):
    with pytest.raises(InputError, match=f"steps={steps}.*strides={strides}"):
        record_walk(bent, torch.randn(2, 2), strides=strides, steps=steps, shift=1.0)


def strides_of(walk, shift):
    """The one field that takes each place to the next exactly."""
    times = time_grid(walk.shape[1] - 1, shift=shift)
    speeds = {round(float(t), 5): (walk[:, k] - walk[:, k + 1]) / (t - times[k + 1]) for k, t in enumerate(times[:-1])}
    return lambda x_t, t: speeds[round(float(t[0]), 5)]


def test_the_loss_is_zero_for_a_student_that_lands_where_the_teacher_stood():
    walk = record_walk(bent, torch.randn(6, 2), strides=4, steps=24, shift=2.0)
    assert stride_loss(strides_of(walk, 2.0), walk, shift=2.0) < 1e-10


def test_a_student_of_zero_loss_walks_with_plain_euler_to_the_teachers_end():
    walk = record_walk(bent, torch.randn(6, 2), strides=4, steps=24, shift=2.0)
    end = euler(strides_of(walk, 2.0), walk[:, 0], steps=4, shift=2.0)
    assert torch.allclose(end, walk[:, -1], atol=1e-5)


def test_a_stride_starts_where_the_students_last_one_ended():
    walk = record_walk(bent, torch.randn(3, 2), strides=2, steps=4, shift=1.0)
    starts = []

    def standing(x_t, t):
        starts.append(x_t)
        return torch.full_like(x_t, 2.0)

    loss = stride_loss(standing, walk, shift=1.0)
    assert torch.equal(starts[0], walk[:, 0]) and torch.allclose(starts[1], walk[:, 0] - 0.5 * 2)
    needed = [(starts[k] - walk[:, k + 1]) / 0.5 for k in (0, 1)]
    assert torch.allclose(loss, torch.stack([(2 - v).square().mean() for v in needed]).mean())


def test_no_gradient_flows_from_one_stride_into_the_one_before():
    weights = torch.zeros(2, requires_grad=True)  # one for each stride
    walk = torch.randn(3, 3, 2)
    stride_loss(lambda x_t, t: weights[0 if t[0] == 1 else 1] + torch.zeros_like(x_t), walk, shift=1.0).backward()
    first = -2 * ((walk[:, 0] - walk[:, 1]) / 0.5).mean() / 2
    assert torch.allclose(weights.grad[0], first)


def distill(teacher, out, **options):
    """The whole distillation, not compiled."""
    return distillation.distill(DistillOptions(teacher=teacher, out=out, compile=False, **options))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    vae, model = VideoVAE(MINI.vae), TextToVideo(MINI.dit, MINI.text, len(Tokenizer()))
    torch.nn.init.normal_(model.dit.head.weight, std=0.5)  # a new head is zero, and a walk of it stands still
    tensors = {f"vae.{k}": v for k, v in vae.state_dict().items()}
    tensors |= {f"model.{k}": v for k, v in model.state_dict().items()}
    path = tmp_path_factory.mktemp("teacher") / "model.safetensors"
    save_tensors(path, tensors, model_metadata(MINI, Tokenizer()))
    return path.parent


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(distillation, "SHARD", 6)
    monkeypatch.setattr(distillation, "STEPS", 8)
    monkeypatch.setattr(distillation, "quick_accuracy", lambda sampler, seed, n: {"all": 0.0})
    monkeypatch.setattr(
        distillation,
        "STUDENT_TRAIN",
        replace(distillation.STUDENT_TRAIN, steps=30, batch=4, lr=3e-3, save_every=5, log_every=1, warmup=1),
    )


def test_a_shard_begins_at_noise_and_ends_where_the_guided_pipeline_ends(teacher):
    pipe = Pipeline.load(teacher)
    shard = record_shard(pipe, 0, seed=3)
    assert shard["walk"].shape == (6, 5, 4, 5, 8, 8) and shard["walk"].dtype == torch.float16
    said = [" ".join(pipe.tokenizer.decode(row[None])[0].split()) for row in shard["ids"]]
    states = []
    pipe.noise = lambda shape, seed, index: shard["walk"][index, 0].float()
    pipe(said, steps=8, callback=lambda step, t, x_t, x_0_hat: states.append(x_t))
    assert torch.allclose(states[2], shard["walk"][:, 1].float(), atol=0.05)
    assert not torch.allclose(states[2], states[0], atol=0.2)


def test_distilling_lowers_the_loss_and_ships_a_student_that_knows_how_it_samples(teacher, tmp_path):
    path = distill(str(teacher), tmp_path / "a", walks=10)
    student, lines = Pipeline.load(path), (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines if "loss" in json.loads(line)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert (student.preset.steps, student.preset.cfg_scale) == (4, 1.0)
    assert student.preset == student_preset(MINI)
    calls = []
    clip = student("a red circle falls", callback=lambda step, t, x_t, _: calls.append(x_t.shape[0]))
    assert calls == [1, 1, 1, 1] and clip.shape == (1, 3, 17, 32, 32)
    tensors, _ = load_tensors(path)
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float16}


def test_a_killed_run_goes_on_to_the_same_weights_and_records_no_walk_twice(teacher, tmp_path, monkeypatch):
    whole = distill(str(teacher), tmp_path / "whole", walks=10)
    real, calls = distillation.record_shard, []

    def once(pipe, shard, *, seed):
        if shard == 1 and not calls:
            calls.append(shard)
            raise KeyboardInterrupt
        return real(pipe, shard, seed=seed)

    monkeypatch.setattr(distillation, "record_shard", once)
    with pytest.raises(KeyboardInterrupt):
        distill(str(teacher), tmp_path / "b", walks=10)
    monkeypatch.setattr(distillation, "record_shard", real)
    monkeypatch.setattr(distillation, "STUDENT_TRAIN", replace(distillation.STUDENT_TRAIN, steps=30))
    again = distill(str(teacher), tmp_path / "b", walks=10, resume=True)
    assert load_tensors(whole)[0].keys() == load_tensors(again)[0].keys()
    assert all(torch.equal(v, load_tensors(again)[0][k]) for k, v in load_tensors(whole)[0].items())


def test_a_folder_in_use_and_other_settings_are_refused(teacher, tmp_path):
    distill(str(teacher), tmp_path, walks=4, steps=2)
    with pytest.raises(InputError, match="already holds a run"):
        distill(str(teacher), tmp_path, walks=4, steps=2)
    for name, other in (("seed", 1), ("walks", 5), ("steps", 1)):
        with pytest.raises(InputError, match=f"was begun with {name}=., not {name}={other}; .*choose another --out"):
            distill(str(teacher), tmp_path, resume=True, **({"walks": 4, "steps": 2} | {name: other}))
    distill(str(teacher), tmp_path, walks=4, steps=3, resume=True)


def test_a_damaged_shard_and_one_of_another_teacher_are_recorded_again(teacher, tmp_path):
    pipe, path = Pipeline.load(teacher), tmp_path / "walks_0000.safetensors"
    first = distillation.record_walks(pipe, "one", tmp_path, walks=4, seed=0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.warns(UserWarning, match="walks_0000.safetensors is damaged; what it held is made again"):
        again = distillation.record_walks(pipe, "one", tmp_path, walks=4, seed=0)
    assert torch.equal(first["walk"], again["walk"]) and path.read_bytes() == whole
    distillation.record_walks(pipe, "two", tmp_path, walks=4, seed=0)
    assert load_tensors(path)[1] == {"teacher": "two", "seed": 0}


def test_walks_that_no_settings_tell_of_are_not_mixed_with_new_ones(teacher, tmp_path):
    distill(str(teacher), tmp_path, walks=4, steps=2)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(InputError, match=r"settings.json is not there to say .*; choose another --out"):
        distill(str(teacher), tmp_path, walks=4, steps=2, resume=True)


def test_no_walks_are_refused(teacher, tmp_path):
    with pytest.raises(InputError, match="walks=0"):
        distill(str(teacher), tmp_path / "c", walks=0)
