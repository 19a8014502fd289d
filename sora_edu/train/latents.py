"""What a training draws once and keeps: its clips, their latents, their captions (lesson 10)."""

import contextlib
import hashlib
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from tqdm.auto import tqdm

from sora_edu.checked import checked
from sora_edu.checkpoint import config_to_json, load_tensors, save_tensors
from sora_edu.compute import autocast
from sora_edu.config import Preset, TrainConfig, WorldConfig
from sora_edu.errors import CheckpointError, RunWarning
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.model.vae import VideoVAE
from sora_edu.seeds import Stream, step_generator
from sora_edu.shapes import Video
from sora_edu.train.distributed import ALONE, Ranks
from sora_edu.world.captions import caption
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state
from sora_edu.world.state import State

SHARD = 500  # clips drawn and encoded at a time
MOST_SHARDS = 10**7  # of one size of clips


def by_size(preset: Preset, *, ranks: Ranks = ALONE) -> list[Preset]:
    """The preset for its own size of clips, and one for each other size: these share as many clips again.

    A batch of another size holds about as many pixels, evenly shared by the ranks, and no images.
    """
    few = max(1, preset.clips // max(len(preset.other_sizes), 1))
    own = replace(preset, other_sizes=(), other_share=0.0)

    def fitted(stage: TrainConfig, world: WorldConfig) -> TrainConfig:
        batch = stage.batch * preset.world.pixels // world.pixels
        return replace(stage, batch=max(batch // ranks.world, 1) * ranks.world, image_fraction=0.0)

    def filmed_as(world: WorldConfig) -> Preset:
        stages = {"vae_train": fitted(preset.vae_train, world), "dit_train": fitted(preset.dit_train, world)}
        return replace(own, world=world, clips=few, **stages)

    return [own, *map(filmed_as, preset.worlds[1:])]


def count_latents(preset: Preset) -> int:
    """Numbers of all cached latents: two bytes each."""
    return sum(one.clips * math.prod(one.latent_shape) for one in by_size(preset))


def shard_states(preset: Preset, seed: int, *, size: int = 0) -> Iterator[State]:
    """The states of the cached clips, shard by shard; they depend on the seed, and on which of the sizes it is."""
    for shard in range(-(-preset.clips // SHARD)):
        count = min(SHARD, preset.clips - shard * SHARD)
        generator = step_generator(seed, Stream.CLIPS, size * MOST_SHARDS + shard)
        yield sample_state(count, preset.world, orbit_weight=preset.orbit_weight, generator=generator)


def draw_pool(preset: Preset, *, seed: int, device: torch.device, size: int = 0) -> UInt8[Tensor, "b 3 f h w"]:
    """The first of the clips that will be cached, as bytes, on the device: a step takes rows of it and waits for none.

    To draw new clips at every step would make a GPU wait: what one shows decides what is computed next.
    """
    few = replace(preset, clips=min(preset.pool, preset.clips))
    bar = tqdm(shard_states(few, seed, size=size), total=-(-few.clips // SHARD), desc="pool", leave=False)
    return torch.cat([((render(s.to(device), preset.world) + 1) * 127.5).round().byte() for s in bar])


def clip_source(
    preset: Preset, *, seed: int, device: torch.device, ranks: Ranks = ALONE, size: int = 0
) -> Callable[[torch.Generator], Video]:
    """A function that draws this rank's share of a batch for the VAE: new clips, or rows of the preset's pool."""
    batch, mine = preset.vae_train.batch, ranks.rows(preset.vae_train.batch)
    pool = draw_pool(preset, seed=seed, device=device, size=size) if preset.pool else None

    def draw(generator: torch.Generator) -> Video:
        if pool is not None:
            rows = (torch.rand(batch, generator=generator, device=device) * len(pool)).long()
            return pool[rows[mine]].float() / 127.5 - 1
        state = sample_state(batch, preset.world, orbit_weight=preset.orbit_weight, generator=generator)
        return render(state[mine], preset.world)

    return draw


def held_out_clips(preset: Preset, *, seed: int, n: int = 32) -> Video:
    """Clips of combinations that no training shows, to measure the VAE on."""
    generator = step_generator(seed, Stream.HELD_OUT, 0)
    return render(sample_state(n, preset.world, split="heldout", generator=generator), preset.world)


def vae_digest(vae: VideoVAE) -> str:
    """A checksum of a VAE's weights, without the latent's shift and scale, which are fitted afterwards."""
    digest = hashlib.sha256()
    for name, tensor in vae.named_parameters():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_cache(path: Path, *names: str) -> tuple[dict[str, Tensor], dict] | None:
    """What was kept in a file, and what for; None where there is no file, or one that is damaged, with a warning.

    names: the tensors that it must hold.
    """
    if not path.exists():
        return None
    with contextlib.suppress(CheckpointError):
        kept = load_tensors(path)
        if kept[0].keys() >= set(names):
            return kept
    warnings.warn(f"{path} is damaged; what it held is made again", RunWarning, stacklevel=2)
    return None


def kept_or_made(
    path: Path, made_for: dict, make: Callable[[], dict[str, Tensor]], *names: str, ranks: Ranks = ALONE
) -> dict[str, Tensor]:
    """The tensors that a file keeps, where it was made for just this; else they are made, and kept.

    names: the tensors that it must hold. The first rank makes them while the others wait.
    """
    if ranks.first:
        kept = read_cache(path, *names)
        if kept is None or kept[1] != made_for:
            save_tensors(path, make(), made_for)
    ranks.wait()
    return load_tensors(path)[0]


def cache_path(out: Path, kind: str, preset: Preset, size: int) -> Path:
    """The file of latents or captions of one of the sizes; the preset's own has the plain name."""
    world = preset.world
    return out / (f"{kind}_{world.frames}x{world.height}x{world.width}.safetensors" if size else f"{kind}.safetensors")


def _made_for(preset: Preset, seed: int, size: int) -> dict:
    """What ``shard_states`` depends on."""
    world = config_to_json(preset.world)
    return {"clips": preset.clips, "orbit_weight": preset.orbit_weight, "seed": seed, "size": size, "world": world}


def cache_latents(
    preset: Preset, vae: VideoVAE, out: Path, *, seed: int, device: torch.device, ranks: Ranks = ALONE, size: int = 0
) -> Tensor:
    """Encode all clips once, in half precision, and fit the latent's shift and scale on them; kept on disk.

    Clips of another ``size`` than the first of ``by_size`` are shifted and scaled as those were. What another VAE
    encoded is encoded again.
    """
    path, made_for = cache_path(out, "latents", preset, size), _made_for(preset, seed, size) | {"vae": vae_digest(vae)}
    tensors = kept_or_made(
        path,
        made_for,
        lambda: _encode(preset, vae, seed, device, size),
        "latents",
        "latent_mean",
        "latent_scale",
        ranks=ranks,
    )
    vae.latent_mean.copy_(tensors["latent_mean"])
    vae.latent_scale.copy_(tensors["latent_scale"])
    return tensors["latents"].to(device)


@torch.no_grad()
def _encode(preset: Preset, vae: VideoVAE, seed: int, device: torch.device, size: int) -> dict[str, Tensor]:
    """Latents of all clips, shifted and scaled, with the shift and the scale."""
    latents = []
    for state in tqdm(shard_states(preset, seed, size=size), total=-(-preset.clips // SHARD), desc="latents"):
        with autocast(device):
            parts = [vae.encoder(part)[0] for part in render(state.to(device), preset.world).split(100)]
        latents.append(torch.cat(parts).float().cpu())
    if not size:
        vae.fit_scale(torch.cat(latents[:8]))
    mean, scale = vae.latent_mean.cpu(), vae.latent_scale.cpu()
    latents = torch.cat([((z - mean) * scale).half() for z in latents])
    return {"latents": latents, "latent_mean": mean, "latent_scale": scale}


@checked
def caption_ids(
    state: State, preset: Preset, tokenizer: Tokenizer, generator: torch.Generator
) -> Int[Tensor, "clips 2 l"]:
    """Token ids of a short and a full caption for every clip of a state, synonyms drawn."""
    both = [caption(state, style=style, generator=generator) for style in ("short", "full")]
    return torch.stack([tokenizer.encode(said, max_tokens=preset.text.max_tokens)[0] for said in both], 1)


def draw_captions(preset: Preset, tokenizer: Tokenizer, *, seed: int, size: int = 0) -> Int[Tensor, "clips 2 l"]:
    """Token ids of a short and a full caption for every cached clip, synonyms drawn."""
    ids, shards = [], -(-preset.clips // SHARD)
    for shard, state in enumerate(tqdm(shard_states(preset, seed, size=size), total=shards, desc="captions")):
        generator = step_generator(seed, Stream.CAPTIONS, size * MOST_SHARDS + shard)
        ids.append(caption_ids(state, preset, tokenizer, generator))
    return torch.cat(ids)


def cache_captions(
    preset: Preset, tokenizer: Tokenizer, out: Path, *, seed: int, ranks: Ranks = ALONE, size: int = 0
) -> Int[Tensor, "clips 2 l"]:
    """draw_captions' ids, kept on disk; drawn again where they belong to other clips, words or lengths."""
    path = cache_path(out, "captions", preset, size)
    made_for = _made_for(preset, seed, size) | {"max_tokens": preset.text.max_tokens}
    made_for["vocabulary_hash"] = tokenizer.vocabulary_hash

    def draw() -> dict[str, Tensor]:
        return {"ids": draw_captions(preset, tokenizer, seed=seed, size=size).short()}

    return kept_or_made(path, made_for, draw, "ids", ranks=ranks)["ids"].long()
