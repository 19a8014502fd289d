"""What is drawn once and kept: the same clips every time, and files that know what they belong to."""

from dataclasses import replace

import pytest
import torch

from sora_edu import config
from sora_edu.checkpoint import load_tensors, save_tensors
from sora_edu.config import DiTConfig, VAEConfig, WorldConfig
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.model.vae import VideoVAE
from sora_edu.train import latents as cached
from sora_edu.train.distributed import Ranks
from sora_edu.train.latents import (
    by_size,
    cache_captions,
    cache_latents,
    count_latents,
    draw_captions,
    draw_pool,
    shard_states,
    vae_digest,
)
from sora_edu.world.render import render

FEW = replace(config.TINY, clips=24, other_sizes=(), other_share=0.0)


def test_the_pool_is_the_first_cached_clips_within_half_a_step_of_a_byte():
    clips = render(next(shard_states(FEW, 3)), FEW.world)
    pool = draw_pool(replace(FEW, pool=9), seed=3, device=torch.device("cpu"))
    assert pool.dtype == torch.uint8 and len(pool) == 9
    # how many are drawn at a time decides what is drawn
    few = render(next(shard_states(replace(FEW, clips=9), 3)), FEW.world)
    assert (pool.float() / 127.5 - 1 - few).abs().max() <= 0.5001 / 127.5
    whole = draw_pool(replace(FEW, pool=1000), seed=3, device=torch.device("cpu"))
    assert (whole.float() / 127.5 - 1 - clips).abs().max() <= 0.5001 / 127.5


def test_captions_are_kept_on_disk_until_clips_or_words_change(tmp_path, monkeypatch):
    drawn = []
    real = cached.draw_captions
    monkeypatch.setattr(cached, "draw_captions", lambda *a, seed, **o: drawn.append(seed) or real(*a, seed=seed, **o))
    first, again = (cache_captions(FEW, Tokenizer(), tmp_path, seed=0) for _ in range(2))
    assert drawn == [0] and torch.equal(first, again) and torch.equal(first, real(FEW, Tokenizer(), seed=0))
    cache_captions(FEW, Tokenizer(), tmp_path, seed=1)
    cache_captions(replace(FEW, clips=5), Tokenizer(), tmp_path, seed=1)
    cache_captions(replace(FEW, clips=5), Tokenizer((*Tokenizer().vocabulary, "zebra")), tmp_path, seed=1)
    assert drawn == [0, 1, 1, 1]


def test_a_damaged_file_is_made_again_with_a_warning(tmp_path):
    first = cache_captions(FEW, Tokenizer(), tmp_path, seed=0)
    path = tmp_path / "captions.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="captions.safetensors is damaged; what it held is made again"):
        assert torch.equal(cache_captions(FEW, Tokenizer(), tmp_path, seed=0), first)
    assert torch.equal(load_tensors(path)[0]["ids"].long(), first)


def test_a_file_without_the_tensors_it_is_for_is_made_again(tmp_path):
    first, path = cache_captions(FEW, Tokenizer(), tmp_path, seed=0), tmp_path / "captions.safetensors"
    save_tensors(path, {"other": torch.zeros(1)}, load_tensors(path)[1])
    with pytest.warns(UserWarning, match="captions.safetensors is damaged; what it held is made again"):
        assert torch.equal(cache_captions(FEW, Tokenizer(), tmp_path, seed=0), first)


MINI = replace(FEW, vae=VAEConfig(channels=4, widths=(8, 8, 8), enc_blocks=1, dec_blocks=1), dit=DiTConfig(channels=4))


def latents_of(seed: int, folder, **options):
    """Latents that a VAE of this seed makes, or finds."""
    torch.manual_seed(seed)
    vae = VideoVAE(MINI.vae)
    return cache_latents(MINI, vae, folder, seed=0, device=torch.device("cpu"), **options), vae


def test_latents_are_kept_for_the_vae_that_made_them_and_made_again_for_another(tmp_path, monkeypatch):
    first, vae = latents_of(1, tmp_path)
    monkeypatch.setattr(cached, "render", lambda *_: pytest.fail("encoded again"))
    found, same = latents_of(1, tmp_path)
    assert torch.equal(found, first) and torch.equal(same.latent_scale, vae.latent_scale)
    monkeypatch.undo()
    other, _ = latents_of(2, tmp_path)
    fresh, _ = latents_of(2, tmp_path / "fresh")
    assert torch.equal(other, fresh) and not torch.equal(other, first)


def test_a_digest_changes_with_any_weight_and_not_with_the_latents_scale():
    vae = VideoVAE(MINI.vae)
    digest = vae_digest(vae)
    vae.latent_scale.add_(1)
    assert vae_digest(vae) == digest
    with torch.no_grad():
        next(vae.decoder.parameters()).view(-1)[0] += 1e-3
    assert vae_digest(vae) != digest


@pytest.mark.parametrize(
    "change", [dict(clips=25), dict(world=replace(FEW.world, frames=13)), dict(world=WorldConfig(pair_fraction=1.0))]
)
def test_latents_of_other_clips_are_made_anew(tmp_path, change):
    first, vae = latents_of(1, tmp_path)
    other = replace(MINI, **change)
    made = [
        cache_latents(other, vae, folder, seed=0, device=torch.device("cpu")) for folder in (tmp_path, tmp_path / "b")
    ]
    assert torch.equal(*made) and not torch.equal(made[0], first)


SIZES = ((9, 32, 32), (17, 48, 48), (33, 32, 32))


def test_each_other_size_has_its_share_of_the_clips_and_a_batch_of_as_many_pixels():
    stage = replace(config.TINY.dit_train, batch=64, image_fraction=0.2)
    preset = replace(MINI, clips=30, dit_train=stage, other_sizes=SIZES, other_share=0.5)
    own, *others = by_size(preset)
    assert own == replace(preset, other_sizes=(), other_share=0.0)
    assert [one.clips for one in others] == [10, 10, 10]
    assert [one.dit_train.batch for one in others] == [120, 28, 32]  # 64 * 17 / 9, 64 / 2.25, 64 * 17 / 33
    assert [one.dit_train.image_fraction for one in others] == [0, 0, 0]
    assert [(one.world.frames, one.world.duration) for one in others] == [(9, 8.0), (17, 16.0), (33, 32.0)]
    shared = by_size(preset, ranks=Ranks(world=8))
    assert [one.dit_train.batch for one in shared] == [64, 120, 24, 32] and shared[2].vae_train.batch == 8
    assert count_latents(preset) == 4 * (30 * 5 * 64 + 10 * 3 * 64 + 10 * 5 * 144 + 10 * 9 * 64)


def test_the_latents_of_another_size_have_a_file_of_their_own_and_the_first_ones_scale(tmp_path):
    first, vae = latents_of(1, tmp_path)
    scale, other = vae.latent_scale.clone(), by_size(replace(MINI, other_sizes=SIZES, other_share=0.5))[3]
    asked = {"seed": 0, "device": torch.device("cpu"), "size": 3}
    longer = cache_latents(other, vae, tmp_path, **asked)
    assert first.shape == (24, 4, 5, 8, 8) and longer.shape == (8, 4, 9, 8, 8)
    assert torch.equal(vae.latent_scale, scale)
    clips = render(next(shard_states(other, 0, size=3)), other.world)
    assert clips.shape[2] == 33
    with torch.no_grad():
        torch.testing.assert_close(vae.encode(clips), longer.float(), atol=0.15, rtol=0)  # bf16
    assert (tmp_path / "latents_33x32x32.safetensors").exists()
    assert torch.equal(cache_latents(other, vae, tmp_path, **asked), longer)


def test_other_sizes_show_other_clips():
    one, two = (next(shard_states(FEW, 0, size=size)) for size in (1, 2))
    assert not torch.equal(one.shape, two.shape)
    assert not torch.equal(*(draw_captions(FEW, Tokenizer(), seed=0, size=size) for size in (1, 2)))


def test_captions_are_drawn_in_both_forms_for_the_clips_that_are_drawn():
    ids = draw_captions(FEW, Tokenizer(), seed=0)
    assert ids.shape == (24, 2, 32)
    lengths = (ids != 0).sum(-1)
    assert (lengths[:, 1] > lengths[:, 0]).all()
    assert sum(len(state) for state in shard_states(FEW, 0)) == 24
