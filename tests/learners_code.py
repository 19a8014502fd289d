"""What learners may write where a lesson goes on with their own function: a right answer in another form than the
solution's, a wrong one, and a probe that calls what the lesson made of it."""

from dataclasses import dataclass


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
