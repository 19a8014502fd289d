"""Answers written by hand, right and wrong, for what no machine would make of a solution.

``BUILT`` is of the exercises whose function runs a later cell of the lesson; ``RIGHT`` and ``WRONG`` are of all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Built:
    """One exercise whose function runs a later demonstration."""

    exercise: str
    other: str  # right, in another form
    wrong: str
    probe: str  # an expression: a tensor that depends on the function, by way of the demonstration's own names


BUILT = [
    Built(
        "02.4",
        """
from einops import rearrange as arrange
def unpatchify_by_hand(t, g, a, b):
    return arrange(t, "n (y x) (a b c) -> n c (y a) (x b)", y=g[0], x=g[1], a=a, b=b)
""",
        """
def unpatchify_by_hand(tokens, grid, ph, pw):
    return tokens.reshape(len(tokens), -1, grid[0] * ph, grid[1] * pw)
""",
        "torch.cat(pictures)",
    ),
    Built(
        "03.1",
        """
def patchify_video_by_hand(video, pf, ph, pw):
    tokens = []
    for f in range(0, video.shape[2], pf):
        for h in range(0, video.shape[3], ph):
            for w in range(0, video.shape[4], pw):
                box = video[:, :, f : f + pf, h : h + ph, w : w + pw]
                tokens.append(box.permute(0, 2, 3, 4, 1).flatten(1))
    return torch.stack(tokens, 1)
""",
        """
def patchify_video_by_hand(video, pf, ph, pw):
    return video.reshape(len(video), -1, pf * ph * pw * video.shape[1])
""",
        "torch.tensor([float(len(changed_tokens(cuts['tubelets'], frame))) for frame in range(16)])",
    ),
    Built(
        "04.1",
        """
def attend_by_hand(q, k, v, mask):
    scores = torch.einsum("bhnd,bhmd->bhnm", q, k) * q.shape[-1] ** -0.5
    weights = scores.exp() if mask is None else scores.exp() * mask
    return torch.einsum("bhnm,bhmd->bhnd", weights / weights.sum(-1, keepdim=True), v)
""",
        """
def attend_by_hand(q, k, v, mask):
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v
""",
        "(torch.manual_seed(0), 9 * YourAttention(32, 2)(9 * torch.randn(1, 64, 32), rope=rope_nd((4, 4, 4), 16)))[1]",
    ),
    Built(
        "05.2",
        """
def kl(mean, logvar):
    cloud = torch.distributions.Normal(mean, (logvar / 2).exp())
    return torch.distributions.kl_divergence(cloud, torch.distributions.Normal(torch.zeros_like(mean), 1.0))
""",
        """
def kl(mean, logvar):
    return mean**2
""",
        """variational(1.0)(type("Parts", (), {"encoder": lambda _, x: (x, 0.5 * x), "decoder": lambda _, z: z})(),
 torch.arange(6.0).view(2, 3), torch.Generator().manual_seed(0))""",
    ),
    Built(
        "05.4",
        """
def causal_pad(x, size):
    return torch.nn.functional.pad(x, (0, 0, 0, 0, size - 1, 0), mode="replicate")
""",
        """
def causal_pad(x, size):
    return torch.cat([x, x[:, :, -1:], x[:, :, -1:]], 2)
""",
        "(torch.manual_seed(0), YourCausalConv(3, 8)(torch.randn(1, 3, 5, 2, 2)))[1]",
    ),
    Built(
        "06.2",
        """
def my_q_sample(x_0, s, eps, alpha_bar):
    return torch.stack([a**0.5 * x + (1 - a) ** 0.5 * e for x, e, a in zip(x_0, eps, alpha_bar[s - 1])])
""",
        """
def my_q_sample(x_0, s, eps, alpha_bar):
    return x_0 + eps
""",
        "noise_to(clips, s, torch.ones_like(clips), alpha_bar)",
    ),
    Built(
        "07.3",
        """
def my_euler(velocity_fn, noise, times):
    x = noise.clone()
    for i in range(len(times) - 1):
        x += (times[i + 1] - times[i]) * velocity_fn(x, torch.full((len(x),), float(times[i]), dtype=x.dtype))
    return x
""",
        """
def my_euler(velocity_fn, noise, times):
    return noise - velocity_fn(noise, torch.ones(len(noise)))
""",
        "my_sampler(lambda x, t: x * (1 + t.view(-1, 1)), torch.ones(3, 2), steps=7, shift=2.0)",
    ),
    Built(
        "07.7",
        """
def ddim_step(x_s, eps, a, p):
    return (p / a) ** 0.5 * x_s + ((1 - p) ** 0.5 - (p * (1 - a) / a) ** 0.5) * eps
""",
        """
def ddim_step(x_s, eps, alpha_bar_s, alpha_bar_prev):
    return (x_s - (1 - alpha_bar_s).sqrt() * eps) / alpha_bar_s.sqrt()
""",
        "my_step(torch.ones(2, 3), torch.arange(6.0).view(2, 3), torch.tensor(0.3), torch.tensor(0.6))",
    ),
    Built(
        "08.1",
        """
def dit_block(x, c, w, heads):
    a, s, g, a2, s2, g2 = (F.silu(c) @ w["modulation.weight"].T + w["modulation.bias"]).view(len(c), 6, 1, -1).unbind(1)
    y = F.layer_norm(x, (x.shape[-1],)) * (1 + s) + a
    q, k, v = (y @ w["attention.qkv.weight"].T + w["attention.qkv.bias"]).chunk(3, -1)
    split = lambda z: z.view(*z.shape[:2], heads, -1).transpose(1, 2)
    y = F.scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2)
    x = x + g * (y @ w["attention.out.weight"].T + w["attention.out.bias"])
    y = F.layer_norm(x, (x.shape[-1],)) * (1 + s2) + a2
    y = F.gelu(y @ w["mlp.0.weight"].T + w["mlp.0.bias"], approximate="tanh")
    return x + g2 * (y @ w["mlp.2.weight"].T + w["mlp.2.bias"])
""",
        """
def dit_block(x, c, w, heads):
    return x
""",
        """(torch.manual_seed(0), block := YourBlock(96, 4), [p.data.normal_(std=0.1) for p in block.parameters()],
 block(torch.randn(2, 16, 96), torch.randn(2, 96)))[3]""",
    ),
    Built(
        "09.4",
        """
def guided_velocity(model, x_t, t, text, null_text, s):
    two = model(x_t.repeat(2, *[1] * (x_t.ndim - 1)), t.repeat(2), torch.cat((null_text, text)))
    return torch.lerp(two[: len(x_t)], two[len(x_t) :], s)
""",
        """
def guided_velocity(model, x_t, t, text, null_text, s):
    return model(x_t, t, text)
""",
        """steer(lambda x, t, text: x * text.mean(1)[:, None] + t[:, None], torch.ones(2, 3), torch.tensor([0.3, 0.6]),
 torch.arange(8.0).view(2, 4), torch.ones(2, 4), 3.0)""",
    ),
    Built(
        "09.7",
        """
def sample_away(model, noise, times, text, negative, s):
    x = noise
    for i in range(len(times) - 1):
        t = times[i].repeat(2 * len(x))
        v = model(x.repeat(2, *[1] * (x.ndim - 1)), t, torch.cat((negative, text)))
        x = x + (times[i + 1] - times[i]) * torch.lerp(v[: len(x)], v[len(x) :], s)
    return x
""",
        """
def sample_away(model, noise, times, text, negative, s):
    return noise
""",
        """away_from(lambda x, t, text: x * text.mean(1)[:, None] + t[:, None], torch.ones(2, 3),
 torch.tensor([1.0, 0.4, 0.0]), torch.arange(8.0).view(2, 4), torch.ones(2, 4), 3.0)""",
    ),
    Built(
        "10.2",
        """
def one_step(model, ema, optimiser, loss_fn, clip, decay):
    optimiser.zero_grad()
    loss = loss_fn(model)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    with torch.no_grad():
        for old, new in zip(ema.parameters(), model.parameters()):
            old.copy_(decay * old + (1 - decay) * new)
    return float(loss.detach())
""",
        """
def one_step(model, ema, optimiser, loss_fn, clip, decay):
    return loss_fn(model).item()
""",
        """(torch.manual_seed(0), linear := nn.Linear(3, 1), kept := copy.deepcopy(linear),
 [train_step(linear, kept, torch.optim.SGD(linear.parameters(), lr=0.1), lambda m: m(torch.ones(2, 3)).square().mean(),
  1.0, 0.5) for _ in range(3)], kept.weight)[4]""",
    ),
]

RIGHT: dict[str, tuple[str, ...]] = {one.exercise: (one.other,) for one in BUILT} | {
    "00.1": (
        'my_prompts = ["Show me a crimson ball that drops!", "A BIG yellow square grows", "a hoop, white, goes up"]',
        'my_prompts = ["a crimson ball slides to the left", "a red circle falls", "a big yellow box grows"]',
        'my_prompts = ["a red circle falls", "a big yellow box grows", "a crimson ball slides to the left"]',
    ),
    "00.2": tuple(
        f'parts = [{before}"text encoder", {after}"VideoDiT", "latent", "VAE decoder", "clip"]'
        for before, after in (
            ('"noise", "prompt", "tokens", ', ""),
            ('"prompt", "noise", "tokens", ', ""),
            ('"prompt", "tokens", "noise", ', ""),
        )
    ),
    "00.3": (
        'badges = ["stated", "unknown", "stated", "inferred", "stated", "unknown", "inferred"]',
        'badges = "s u s i s u i"',
    ),
    "00.4": ("role_sentences, author_sentences, share = 6**6, 720, 720 / 6**6",),
    "05.6": ('shapes_in_noise, maker = (track(noise_clips).shape >= 0).any(1).sum(), "the diffusion transformer"',),
    "06.3": (
        """
def is_noised(before, after):
    steps = [picture.diff(dim=-1).var() / picture.var() for picture in (before, after)]
    return steps[1] > steps[0]
""",
    ),
    "06.7": (
        """
def mended_noising(x_0, s, alpha_bar, generator):
    kept = alpha_bar[s - 1].view(-1, 1, 1, 1, 1)
    eps = torch.stack([torch.randn(clip.shape, generator=generator) for clip in x_0])
    return kept**0.5 * x_0 + (1 - kept) ** 0.5 * eps
""",
    ),
    "07.6": (
        """
def eps_and_velocity_error(e, t):
    return [e * (1 / t - 1) ** 2, e * t**-2]


better = "Nobody can tell."
""",
    ),
    "08.2": ('change, awake = 0.0, ["gate_2", "gate_1"]',),
    "08.5": ('l_2, xl_2, better = 80.7, 15.18, "DiT-XL/2"',),
    "08.7": (
        """
def mended_start(block):
    for parameter in block.modulation.parameters():
        torch.nn.init.zeros_(parameter)
""",
        """
def mended_start(block):
    with torch.no_grad():
        for parameter in (block.modulation.weight, block.modulation.bias):
            parameter.unflatten(0, (6, -1))[[2, 5]] = 0.0
    return block
""",
        """
def mended_start(block):
    for layer in (block.attention.out, block.mlp[2]):  # the gates are random, and what they multiply is zero
        start_at_zero(layer)
""",
    ),
    "10.6": (
        'diagnosis = {"E": "rate too high", "D": "healthy", "C": "no latent scale", "B": "swapped target"}\n'
        'diagnosis["A"] = "not shuffled"',
    ),
}

WRONG: dict[str, tuple[str, ...]] = {one.exercise: (one.wrong,) for one in BUILT} | {
    "06.7": tuple(
        f"""
def mended_noising(x_0, s, alpha_bar, generator):
    b, c, f, h, w = x_0.shape
    eps = {eps}
    return q_sample(x_0, s, eps.expand_as(x_0), alpha_bar)
"""
        for eps in (
            "torch.randn(b, c, 1, h, w, generator=generator)",
            "torch.randn(1, c, f, h, w, generator=generator)",
            "torch.randn(b, 1, f, h, w, generator=generator)",
            "torch.randn(b, c, f, 1, w, generator=generator)",
            "torch.rand(b, c, f, h, w, generator=generator)",
            "torch.randn(b, c, f, h, w, generator=torch.Generator().manual_seed(0))",
        )
    ),
    "05.6": tuple(
        f"shapes_in_noise, maker = {count}, {maker!r}"
        for count, maker in ((6, "VideoDiT"), (1, "VideoDiT"), (2, "VAE decoder"), (2, "the VAE"), (2, "text encoder"))
    ),
    "08.2": tuple(
        f"change, awake = {change}, {awake}"
        for change, awake in (
            ("0", '{"gate_1"}'),
            ("0", '{"attention", "mlp"}'),
            ("0", '{"gate_1", "gate_2", "attention", "mlp"}'),
            ("0", '{"shift_1", "scale_1", "gate_1", "shift_2", "scale_2", "gate_2"}'),
            ("0", "set()"),
            ("2", '{"gate_1", "gate_2"}'),
        )
    ),
    "08.7": tuple(
        f"""
def mended_start(block):
    for name, parameter in block.named_parameters():
        if name.startswith({names}) and {which}:
            torch.nn.init.zeros_(parameter)
    return block
"""
        for names, which in (
            (("modulation", "attention.out", "mlp.2"), "True"),
            (("modulation", "attention.out"), "True"),
            (("modulation", "mlp.2"), "True"),
            (("modulation",), "name.endswith('weight')"),
            (("modulation",), "name.endswith('bias')"),
            (("attention", "mlp.0"), "True"),
            (("",), "True"),
        )
    ),
}


# --- what a solution needs and only a running model could give ------------------------------------------------------


def obedient(texts: list[str]) -> torch.Tensor:
    """A pipeline that always paints what is asked: what the world itself draws."""
    from sora_edu.world.captions import parse_caption
    from sora_edu.world.prompts import check_prompt
    from sora_edu.world.render import render
    from sora_edu.world.scenes import make_state
    from sora_edu.world.state import cat_states

    things = [parse_caption(check_prompt(text)).objects[0] for text in texts]
    return render(cat_states([make_state(shape=t.shape, colour=t.colour, motion=t.motion) for t in things]))


def measured_weights() -> dict[float, dict[str, float]]:
    """Copies, reach of noise and nats of codes trained with five KL weights."""
    rows = [(1e-5, 21.0, 14.0, 30.0), (1e-4, 20.9, 15.0, 20.0), (1e-2, 19.5, 18.5, 5.3), (1e-1, 12.5, 13.0, 0.9)]
    rows.append((1.0, 11.1, 11.2, 0.0))
    return {weight: {"psnr": psnr, "reach": reach, "nats": nats} for weight, psnr, reach, nats in rows}


def decoded_noise() -> torch.Tensor:
    """Six clips: a circle, two objects, and four times nothing."""
    from sora_edu.config import WorldConfig
    from sora_edu.world.render import render
    from sora_edu.world.scenes import make_state, sample_state

    two = sample_state(1, WorldConfig(pair_fraction=1.0), generator=torch.Generator().manual_seed(2))
    return torch.cat((render(make_state(shape="circle")), render(two), torch.full((4, 3, 17, 32, 32), -0.9)))


STAND_INS: dict[str, dict[str, Callable[[], object]]] = {
    "00.1": {"pipe": lambda: obedient},
    "05.3": {"table": measured_weights},
    "05.6": {"noise_clips": decoded_noise},
}
