"""From a prompt to a clip: tokenizer, text encoder, noise, guided flow, VAE decoder, in one object (lesson 00)."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sora_edu.checked import checked
from sora_edu.checkpoint import (
    check_weights,
    config_from_json,
    config_to_json,
    expected_weights,
    find_checkpoint,
    load_tensors,
    load_weights,
)
from sora_edu.compute import autocast, choose_device
from sora_edu.config import DiTConfig, Preset, TextConfig, TrainConfig, VAEConfig, WorldConfig, check_value
from sora_edu.diffusion.guidance import guided
from sora_edu.diffusion.sampling import Callback, euler
from sora_edu.errors import CheckpointError, InputError, PromptError, shown
from sora_edu.model.dit import TextToVideo
from sora_edu.model.text import TextState
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.model.vae import VideoVAE
from sora_edu.seeds import mixed_seed
from sora_edu.shapes import Latent, Times, Video, check_divisible
from sora_edu.world.prompts import check_prompt

PARTS = {
    "world": WorldConfig,
    "vae": VAEConfig,
    "text": TextConfig,
    "dit": DiTConfig,
    "vae_train": TrainConfig,
    "dit_train": TrainConfig,
}
BATCH = 32  # clips sampled at a time
LARGEST = 1 << 22  # pixels of one clip, all frames: more would take minutes and gigabytes on a laptop


def model_metadata(preset: Preset, tokenizer: Tokenizer) -> dict:
    """What a file of weights says of itself: the preset and the words its ids stand for."""
    return {"preset": config_to_json(preset), "vocabulary": list(tokenizer.vocabulary)}


def preset_from_json(values: object) -> Preset:
    """The preset that ``model_metadata`` wrote; CheckpointError where it does not fit this version."""
    if isinstance(values, dict):
        parts = {name: config_from_json(kind, values[name]) for name, kind in PARTS.items() if name in values}
        values = values | parts
    return config_from_json(Preset, values)


def count_blocks(preset: Preset) -> int:
    """Blocks of the VAE, the text encoder and the transformer; each has tensors of its own."""
    vae = preset.vae
    return len(vae.widths) * (vae.enc_blocks + vae.dec_blocks) + preset.text.depth + preset.dit.depth


def tokenizer_from_json(vocabulary: object) -> Tokenizer:
    """The tokenizer of a checkpoint's words; CheckpointError where they are not words, or one comes twice."""
    if not isinstance(vocabulary, list) or not all(isinstance(word, str) and word for word in vocabulary):
        raise CheckpointError("the checkpoint's vocabulary does not fit this version: it must be a list of words")
    if len(set(vocabulary)) < len(vocabulary):
        raise CheckpointError("the checkpoint's vocabulary does not fit this version: a word comes twice")
    return Tokenizer(tuple(vocabulary))


def check_prompts(prompts: object) -> list[str]:
    """The words of each prompt, for one text or a list of them; PromptError where there is none, or it is no text."""
    if not isinstance(prompts, (str, list, tuple)):
        raise PromptError(f'prompts={shown(prompts)} must be a text or a list of texts; try "a red circle falls"')
    if not prompts:
        raise PromptError('there is no prompt; give at least one, such as "a red circle falls"')
    return [check_prompt(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]


class Pipeline:
    """A trained text-to-video model: ``Pipeline.load("tiny")(["a red circle falls"])`` gives a clip."""

    def __init__(self, preset: Preset, vae: VideoVAE, model: nn.Module, tokenizer: Tokenizer):
        """model: a TextToVideo, or any other with parts ``text`` and ``dit`` that are called as its own."""
        self.preset, self.tokenizer = preset, tokenizer
        self.vae, self.model = vae.eval(), model.eval()

    @property
    def dit(self):
        return self.model.dit

    @property
    def text(self):
        return self.model.text

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @classmethod
    def load(cls, name_or_path: str | Path = "tiny", *, device: str = "cpu") -> "Pipeline":
        """A shipped checkpoint by name, or one of your own by path; CheckpointError says what is wrong with it."""
        path, device = find_checkpoint(name_or_path), choose_device(device)
        tensors, meta = load_tensors(path, mapped=True)
        if "preset" not in meta or "vocabulary" not in meta:
            raise CheckpointError(
                f"{path} holds no model: it is a training state; use model.safetensors of the same run"
            )
        preset, tokenizer = preset_from_json(meta["preset"]), tokenizer_from_json(meta["vocabulary"])

        def build() -> nn.ModuleDict:
            text_to_video = TextToVideo(preset.dit, preset.text, len(tokenizer))
            return nn.ModuleDict({"vae": VideoVAE(preset.vae), "model": text_to_video})

        blocks = count_blocks(preset)
        if blocks > len(tensors):
            raise CheckpointError(
                f"{path} is for another model: it asks for {blocks} blocks, but holds {len(tensors)} tensors"
            )
        check_weights(tensors, expected_weights(build), source=str(path))  # before anything large is built
        modules = build()
        load_weights(modules, tensors, source=str(path))
        if not ((modules["vae"].latent_scale >= 1e-6) & (modules["vae"].latent_scale <= 1e6)).all():
            raise CheckpointError(f"{path} holds a vae.latent_scale outside 1e-6 to 1e6; use an earlier checkpoint")
        modules.to(device)
        return cls(preset, modules["vae"], modules["model"], tokenizer)

    def latent_shape(self, frames: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Channels, frames, height and width of a clip's latent; InputError names the nearest sizes that fit."""
        size = tuple(size) if isinstance(size, list) else size
        check_value("frames", frames, int)
        check_value("size", size, tuple[int, int])
        height, width = size
        if not 0 < frames * height * width <= LARGEST:
            raise InputError(
                f"a clip of {frames}x{height}x{width} has {frames * height * width:,} pixels; use 1 to {LARGEST:,}"
            )
        vae = self.preset.vae
        _, ph, pw = self.preset.dit.patch
        check_divisible("height", height, vae.fs * ph)
        check_divisible("width", width, vae.fs * pw)
        return vae.latent_shape(frames, height, width)

    @torch.no_grad()
    def encode_text(self, prompts: list[str]) -> TextState:
        """Words as the transformer sees them: vectors, mask and mean."""
        ids, mask = self.tokenizer.encode(prompts, max_tokens=self.preset.text.max_tokens)
        return self.model.text(ids.to(self.device), mask.to(self.device))

    @torch.no_grad()
    def __call__(
        self,
        prompts: list[str] | str,
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        steps: int | None = None,
        cfg_scale: float | None = None,
        negative: str | None = None,
        seed: int = 0,
        sampler=euler,
        callback: Callback | None = None,
    ) -> Video:
        """Clips of the prompts, pixels in [-1, 1], float32 on the CPU.

        frames, size, steps and cfg_scale are the preset's unless given: 17, (32, 32), 25 and 3 for tiny.
        negative: what not to show; guidance then leads away from it, and not from the empty caption.
        Clip i starts from noise of (seed, i) whatever its neighbours are. Raises PromptError for a prompt that
        cannot be drawn, InputError for a size, steps, scale or seed that does not fit; warns of unknown words.
        """
        prompts = check_prompts(prompts)
        world = self.preset.world
        shape = self.latent_shape(
            world.frames if frames is None else frames, (world.height, world.width) if size is None else size
        )
        steps = self.preset.steps if steps is None else steps
        cfg_scale = self.preset.cfg_scale if cfg_scale is None else cfg_scale
        check_value("cfg_scale", cfg_scale, float, (0, 100))
        check_value("seed", seed, int, (0, 2**32 - 1))
        away = ""
        if negative is not None:
            check_value("negative", negative, str)
            if cfg_scale <= 1:
                does = f"negative={shown(negative)} does nothing at cfg_scale={cfg_scale}"
                raise InputError(f"{does}; use one above 1, as 3")
            away = check_prompt(negative)
        if not callable(sampler):
            raise InputError(f"sampler={shown(sampler)} is no function; use euler, heun or sde of sora_edu.diffusion")
        if not callable(callback) and callback is not None:
            raise InputError(f"callback={shown(callback)} is no function; give one of (step, t, x_t, x_0_hat), or none")
        clips = []
        for start in range(0, len(prompts), BATCH):
            chosen = prompts[start : start + BATCH]
            noise = torch.stack([self.noise(shape, seed, start + i) for i in range(len(chosen))]).to(self.device)
            with autocast(self.device):
                text, null_text = self.encode_text(chosen), self.encode_text([away])
                velocity = guided(self.velocity, text=text, null_text=null_text, cfg_scale=cfg_scale)
                z = sampler(velocity, noise, steps=steps, shift=self.preset.shift, callback=callback)
                clips.append(self.vae.decode(z).float().clamp(-1, 1).cpu())
        return torch.cat(clips)

    @checked
    def velocity(self, x_t: Latent, t: Times, text: TextState) -> Tensor:
        """The transformer's velocity, in the precision of x_t."""
        return self.model.dit(x_t, t, text).to(x_t.dtype)

    @staticmethod
    def noise(shape: tuple[int, ...], seed: int, index: int) -> Float[Tensor, "c f h w"]:
        """The noise that clip ``index`` of a seed starts from; drawn on the CPU, so the same on every device."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(mixed_seed(seed, index)))

    @torch.no_grad()
    @checked
    def reconstruct(self, video: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b 3 f h w"]:
        """The video through the VAE and back; InputError names the sizes that fit, and pixels far outside [-1, 1]."""
        if (largest := video.abs().max()) > 2:
            raise InputError(f"the video reaches {largest:.3g}, not [-1, 1]; from 0..255 use x / 127.5 - 1")
        with autocast(self.device):
            return torch.cat(
                [
                    self.vae.decode(self.vae.encode(part.to(self.device))).float().clamp(-1, 1).cpu()
                    for part in video.split(BATCH)
                ]
            )
