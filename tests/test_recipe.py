import json
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sora_edu import config
from sora_edu.checkpoint import load_tensors, save_tensors
from sora_edu.config import COMPACT, TINY, DiTConfig, TextConfig, VAEConfig
from sora_edu.errors import CheckpointError, InputError, Stopped, TrainingError
from sora_edu.model.dit import TextToVideo
from sora_edu.model.scaling import count_parameters
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.model.vae import VideoVAE, object_weights, vae_loss
from sora_edu.pipeline import Pipeline
from sora_edu.seeds import step_generator
from sora_edu.train import latents as cached, loop as training, recipe, watching
from sora_edu.train.options import TrainOptions
from sora_edu.train.recipe import captioned_losses, choose_preset, in_turn, vae_losses, with_more_pairs
from sora_edu.train.run_folder import locked
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state

MINI = replace(
    config.TINY,
    vae=VAEConfig(channels=4, widths=(8, 8, 8), enc_blocks=1, dec_blocks=1),
    text=TextConfig(width=16, depth=1, heads=2),
    dit=DiTConfig(channels=4, width=24, depth=1, heads=2, text_width=16),
    vae_train=replace(config.TINY.vae_train, steps=3, batch=2, save_every=2, log_every=1),
    dit_train=replace(config.TINY.dit_train, steps=3, batch=4, save_every=2, log_every=1),
    clips=24,
    other_sizes=(),
    other_share=0.0,
)


def train(preset, out, **options):
    """The recipe, not compiled."""
    return recipe.train(TrainOptions(preset=preset, out=out, compile=False, **options))


@pytest.fixture(autouse=True)
def mini(monkeypatch):
    monkeypatch.setitem(config.PRESETS, "mini", MINI)
    monkeypatch.setattr(watching, "quick_accuracy", lambda sampler, seed: {"all": 0.0})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.PRESETS, "mini", MINI)
        patch.setattr(watching, "quick_accuracy", lambda sampler, seed: {"all": 0.0})
        return train("mini", tmp_path_factory.mktemp("run") / "a")


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
                losses, calls = which.loss_fn, []

                def broken(module, generator):
                    calls.append(1)
                    if len(calls) > steps:
                        raise KeyboardInterrupt
                    return losses(module, generator)

                which = replace(which, loss_fn=broken)
            return real(which, *args, **options)

        monkeypatch.setattr(recipe, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            train("mini", out, resume=stage == "dit")
        monkeypatch.setattr(recipe, "fit", real)
    resumed, whole = load_tensors(train("mini", out, resume=True)), load_tensors(run)
    assert resumed[1] == whole[1]
    assert all(torch.equal(resumed[0][k], v) for k, v in whole[0].items())


def test_trained_in_pieces_of_a_given_time_is_bit_exact(run, tmp_path):
    for _ in range(6):  # one step each
        with pytest.raises(Stopped) as stopped:
            train("mini", tmp_path / "c", resume=True, minutes=1e-9)
        assert stopped.value.signal is None
    path = train("mini", tmp_path / "c", resume=True, minutes=1e-9)  # what is left to write
    pieces, whole = load_tensors(path), load_tensors(run)
    assert pieces[1] == whole[1] and all(torch.equal(pieces[0][k], v) for k, v in whole[0].items())


def test_a_pool_of_clips_and_weights_in_bf16(monkeypatch, tmp_path):
    preset = replace(MINI, pool=1000, half=True)
    monkeypatch.setitem(config.PRESETS, "gpu", preset)
    monkeypatch.setattr(cached, "sample_state", once_a_shard := Counted(cached.sample_state))
    path = train("gpu", tmp_path / "a")
    assert once_a_shard.calls == 4  # the held-out clips, the pool, latents and captions: no step draws any
    tensors = load_tensors(path)[0]
    exact = {name for name, tensor in tensors.items() if tensor.dtype != torch.bfloat16}
    assert exact == {"vae.latent_mean", "vae.latent_scale"}
    ema = load_tensors(tmp_path / "a" / "dit.state1.safetensors")[0]
    torch.testing.assert_close(tensors["model.dit.head.weight"].float(), ema["ema.dit.head.weight"], rtol=4e-3, atol=0)
    assert Pipeline.load(path)("a red circle falls", steps=1).shape == (1, 3, 17, 32, 32)


class Questions(TorchDispatchMode):
    """Notes every operation whose result decides what the processor does next: on a GPU each would make it wait."""

    def __init__(self):
        super().__init__()
        self.asked, self.seen = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen += 1
        name = func.overloadpacket.__name__
        masks = (
            [i for i in args[1] if i is not None and i.dtype == torch.bool]
            if name in ("index", "index_put", "index_put_")
            else []
        )
        if masks or name in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("pool", "answer"), [(1000, True), (0, False)])
def test_a_step_asks_the_device_nothing(monkeypatch, tmp_path, pool, answer):
    questions = Questions()

    def watched(method):
        def inner(*arguments):
            with questions:
                return method(*arguments)

        return inner

    for name in ("backward", "update"):
        monkeypatch.setattr(training.TrainState, name, watched(getattr(training.TrainState, name)))
    monkeypatch.setattr(training, "sync_every", lambda device, config: 3)
    monkeypatch.setattr(recipe, "coin", lambda generator: 0.5)  # on a GPU a matter of the processor alone
    monkeypatch.setitem(config.PRESETS, "gpu", with_logs(replace(MINI, pool=pool), every=3))
    train("gpu", tmp_path)
    assert questions.seen > 1000 and (questions.asked == []) is answer


def with_logs(preset, *, every: int):
    stages = {name: replace(getattr(preset, name), log_every=every) for name in ("vae_train", "dit_train")}
    return replace(preset, **stages)


class Counted:
    """A function, and how often it was called."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments, **options):
        self.calls += 1
        return self.function(*arguments, **options)


def test_the_compact_checkpoint_has_at_most_48_megabytes():
    with torch.device("meta"):
        vae, model = VideoVAE(COMPACT.vae), TextToVideo(COMPACT.dit, COMPACT.text, len(Tokenizer()))
    assert COMPACT.half and 2 * (count_parameters(vae) + count_parameters(model)) < 47.9e6  # names and words besides


def test_with_the_vae_of_a_run_the_transformer_becomes_the_same(run, tmp_path):
    given, whole = load_tensors(train("mini", tmp_path / "a", vae=str(run))), load_tensors(run)
    assert given[1] == whole[1] and all(torch.equal(given[0][name], part) for name, part in whole[0].items())
    lines = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["stage"] for line in lines} == {"dit"}
    with pytest.raises(InputError, match=r"begun with vae=.*, not vae=None"):
        train("mini", tmp_path / "a", resume=True)


def test_a_training_goes_on_from_the_weights_of_a_checkpoint(run, tmp_path, monkeypatch):
    given, begun = load_tensors(run)[0], []
    real = recipe.fit

    def first_weights(stage, *args, **options):
        begun.append({name: part.clone() for name, part in stage.module.state_dict().items()})
        return real(stage, *args, **options)

    monkeypatch.setattr(recipe, "fit", first_weights)
    trained = load_tensors(train("mini", tmp_path / "a", init=str(run)))[0]
    assert len(begun) == 1 and all(torch.equal(part, given[f"model.{name}"]) for name, part in begun[0].items())
    assert any(not torch.equal(trained[name], part) for name, part in given.items() if name.startswith("model."))
    monkeypatch.setitem(config.PRESETS, "mini", replace(MINI, dit=replace(MINI.dit, width=36)))
    with pytest.raises(CheckpointError, match=r"is of DiTConfig\(.*width=24.*asks for .*width=36"):
        train("mini", tmp_path / "b", init=str(run))


def test_a_vae_that_does_not_fit_is_refused_before_the_folder_is_touched(run, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"is of VAEConfig\(channels=16.*the preset asks for .*channels=4"):
        train("mini", tmp_path / "a", vae="tiny")
    tensors, meta = load_tensors(run)
    bare = tmp_path / "bare.safetensors"
    save_tensors(bare, {name: part for name, part in tensors.items() if not name.startswith("vae.")}, meta)
    with pytest.raises(CheckpointError, match="holds no weights of a vae"):
        train("mini", tmp_path / "a", vae=str(bare))
    for both in ({"vae": "tiny", "vae_steps": 3}, {"init": "tiny", "vae_steps": 3}, {"init": "tiny", "vae": "tiny"}):
        with pytest.raises(InputError, match="leave one out"):
            train("mini", tmp_path / "a", **both)
    assert not (tmp_path / "a").exists()


def test_graphs_are_refused_where_there_is_no_gpu(tmp_path):
    with pytest.raises(InputError, match="--graphs needs cuda"):
        train("mini", tmp_path, device="cpu", graphs=True)


def test_frames_in_place_of_the_presets(run):
    assert choose_preset("compact", frames=33).world.frames == 33
    with pytest.raises(InputError, match="32"):
        choose_preset("compact", frames=32)
    with pytest.raises(InputError, match="was begun with frames=17, not frames=13; resume with the former"):
        train("mini", run.parent, resume=True, frames=13)


def test_a_folder_with_a_run_is_not_overwritten(run):
    before = run.read_bytes()
    with pytest.raises(InputError, match="already holds a run; add --resume"):
        train("mini", run.parent)
    assert run.read_bytes() == before


@pytest.mark.parametrize("other", [{"clips": 25}, {"seed": 1}, {"batch": 3}, {"frames": 13}, {"vae_steps": 2}])
def test_resuming_with_other_settings_is_refused_in_the_first_stage_already(tmp_path, monkeypatch, other):
    real, calls = recipe.vae_loss, []

    def broken(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(recipe, "vae_loss", broken)
    with pytest.raises(KeyboardInterrupt):
        train("mini", tmp_path)
    with pytest.raises(InputError, match=r"was begun with \w+=\d+.*, not .*; resume with the former"):
        train("mini", tmp_path, resume=True, **other)


def test_a_longer_training_of_the_vae_is_refused_once_the_transformer_has_begun(run):
    before = run.read_bytes()
    with pytest.raises(InputError, match="begun with vae_steps=3, not vae_steps=5; .*only dit_steps may grow"):
        train("mini", run.parent, resume=True, vae_steps=5)
    assert run.read_bytes() == before


def test_a_run_that_does_not_say_what_it_was_begun_with_is_left_alone(run, tmp_path):
    shutil.copytree(run.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "settings.json").unlink()
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    with pytest.raises(InputError, match=r"settings.json is not there to say .*; choose another --out"):
        train("mini", tmp_path, resume=True)
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*.*")}


def test_weights_without_a_state_are_not_trained_over(run, tmp_path):
    shutil.copy(run, tmp_path)
    with pytest.raises(InputError, match="holds weights, but no state to resume from; choose another --out"):
        train("mini", tmp_path, resume=True)
    assert (tmp_path / "model.safetensors").read_bytes() == run.read_bytes()


def test_a_longer_training_of_the_vae_before_that_makes_the_latents_anew(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recipe, "train_dit", stop)
        train("mini", tmp_path)
    cached.cache_latents(MINI, VideoVAE(MINI.vae), tmp_path, seed=0, device=torch.device("cpu"))  # of some other VAE
    tensors = load_tensors(train("mini", tmp_path, resume=True, vae_steps=4))[0]
    latents = load_tensors(tmp_path / "latents.safetensors")[0]
    assert torch.equal(tensors["vae.latent_scale"], latents["latent_scale"])
    vae = VideoVAE(MINI.vae)
    vae.load_state_dict({k.removeprefix("vae."): v for k, v in tensors.items() if k.startswith("vae.")})
    assert load_tensors(tmp_path / "latents.safetensors")[1]["vae"] == cached.vae_digest(vae)


def test_a_second_run_in_the_folder_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(TrainingError, match="in use by another run"):
        train("mini", tmp_path)


def test_a_training_state_is_no_model(run):
    with pytest.raises(CheckpointError, match="it is a training state; use model.safetensors"):
        Pipeline.load(next(run.parent.glob("dit.state?.safetensors")))


def test_a_batch_that_no_memory_holds_is_refused_before_the_folder_is_touched(tmp_path):
    with pytest.raises(InputError, match="a batch of 1000000000 clips of 17 frames; use 986895 at most"):
        train("mini", tmp_path / "new", batch=10**9)
    assert not (tmp_path / "new").exists()


def test_unknown_presets_and_replaced_lengths():
    with pytest.raises(InputError, match="preset 'huge' is unknown; use one of tiny, tiny-sizes, compact"):
        choose_preset("huge")
    chosen = choose_preset("tiny", vae_steps=7, clips=9, batch=5)
    assert (chosen.vae_train.steps, chosen.clips, chosen.vae_train.batch, chosen.dit_train.batch) == (7, 9, 5, 5)
    assert chosen.dit_train.steps == config.TINY.dit_train.steps


def test_in_a_share_of_the_clips_frames_are_known_and_do_not_count():
    preset = replace(TINY, known_frames=0.5, dit_train=replace(TINY.dit_train, batch=400, image_fraction=0.0))
    latents, ids = torch.randn(10, 16, 5, 2, 2), torch.randint(3, 9, (10, 2, 6))
    seen = {}

    class Model(nn.Module):
        def forward(self, x_t, t, words, mask):
            seen.update(x_t=x_t, t=t)
            return torch.where(t[:, None, :, None, None] > 0, x_t, 1e6)

    loss = captioned_losses(preset, latents, ids)(Model(), torch.Generator().manual_seed(0))["loss"]
    known = seen["t"] == 0
    assert 0.35 < known.any(1).float().mean() < 0.6 and not known.all(1).any()
    assert all((seen["x_t"][i, :, f] == latents[:, :, f]).flatten(1).all(1).any() for i, f in known.nonzero()[:50])
    assert loss < 10  # a million where it does not count


def test_images_are_never_known():
    preset = replace(TINY, known_frames=1.0, dit_train=replace(TINY.dit_train, batch=4, image_fraction=1.0))
    latents, ids = torch.randn(10, 16, 5, 2, 2), torch.randint(3, 9, (10, 2, 6))

    class Model(nn.Module):
        def forward(self, x_t, t, words, mask):
            assert x_t.shape[2] == 1 and (t > 0).all()
            return x_t

    assert captioned_losses(preset, latents, ids)(Model(), torch.Generator().manual_seed(0))["loss"] > 0


def test_the_vae_learns_from_more_pairs_where_the_preset_says_so():
    plain = replace(TINY, vae_pairs=0.0)
    assert with_more_pairs(plain) == plain
    more = with_more_pairs(replace(plain, vae_pairs=0.5))
    assert more.world.pair_fraction == 0.5 and replace(more, world=TINY.world, vae_pairs=0.0) == plain
    assert with_more_pairs(replace(plain, vae_pairs=0.1)).world == TINY.world


def test_each_size_has_its_share_of_the_steps():
    preset = replace(TINY, other_sizes=((9, 32, 32), (17, 24, 40)), other_share=0.4)
    said = [lambda module, generator, size=size: {"loss": torch.tensor(size)} for size in range(3)]
    loss_fn = in_turn(preset, said)
    drawn = [int(loss_fn(nn.Identity(), step_generator(0, 1, step))["loss"]) for step in range(2000)]
    for size, share in enumerate((0.6, 0.2, 0.2)):
        assert abs(drawn.count(size) / 2000 - share) < 0.04  # 3.6 standard deviations
    assert in_turn(replace(TINY, other_sizes=(), other_share=0.0), said[:1]) is said[0]


def test_one_size_draws_what_it_would_draw_alone():
    """The coin for the size is drawn only where there are several: older runs go on as they were."""
    alone = replace(MINI, other_sizes=(), other_share=0.0)
    latents, ids = torch.randn(10, *alone.latent_shape), torch.randint(3, 9, (10, 2, 6))
    seen = []

    class Model(nn.Module):
        def forward(self, x_t, t, words, mask):
            seen.append(x_t)
            return x_t

    for loss_fn in (captioned_losses(alone, latents, ids), in_turn(alone, [captioned_losses(alone, latents, ids)])):
        loss_fn(Model(), torch.Generator().manual_seed(3))
    assert torch.equal(*seen)


def test_a_run_trains_on_every_size_and_is_resumed_exactly(tmp_path, monkeypatch):
    sizes = ((5, 16, 24), (9, 16, 16))
    mixed = replace(MINI, other_sizes=sizes, other_share=0.7)
    mixed = replace(mixed, vae_train=replace(mixed.vae_train, steps=6), dit_train=replace(mixed.dit_train, steps=6))
    monkeypatch.setitem(config.PRESETS, "mini", mixed)
    seen, real = set(), recipe.vae_loss

    def watched(vae, video, **options):
        seen.add(tuple(video.shape[2:]))
        return real(vae, video, **options)

    monkeypatch.setattr(recipe, "vae_loss", watched)
    whole = load_tensors(train("mini", tmp_path / "whole"))[0]
    own = (mixed.world.frames, mixed.world.height, mixed.world.width)
    assert seen == {own, *sizes}
    for name in ("latents_5x16x24", "captions_9x16x16"):
        assert (tmp_path / "whole" / f"{name}.safetensors").exists()

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recipe, "train_dit", stop)
        train("mini", tmp_path / "pieces")
    pieces = load_tensors(train("mini", tmp_path / "pieces", resume=True))[0]
    assert whole.keys() == pieces.keys() and all(torch.equal(whole[k], pieces[k]) for k in whole)
    assert Pipeline.load(tmp_path / "pieces").preset == mixed


def test_the_vaes_loss_weighs_objects_where_the_preset_says_so():
    clips = render(sample_state(2, generator=torch.Generator().manual_seed(0)))
    vae = VideoVAE(TINY.vae)
    losses = []
    for preset in (replace(TINY, weigh_objects=False), replace(TINY, weigh_objects=True)):
        preset = replace(preset, vae_train=replace(TINY.vae_train, batch=2))
        losses.append(vae_losses(preset, lambda generator: clips)(vae, torch.Generator().manual_seed(0)))
    noise = torch.randn(2, *TINY.latent_shape, generator=torch.Generator().manual_seed(0))
    want = vae_loss(vae, clips, kl_weight=TINY.kl_weight, noise=noise, weights=object_weights(clips))
    torch.testing.assert_close(losses[1]["mse"], want["mse"])
    assert losses[1]["mse"] > losses[0]["mse"]
