"""The text encoder: a small bidirectional transformer over words, trained together with the model it steers.

(lesson 09)
"""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sora_edu.checked import checked
from sora_edu.config import TextConfig
from sora_edu.errors import InputError
from sora_edu.model.attention import SelfAttention
from sora_edu.model.positions import Rope, rope_nd
from sora_edu.shapes import Tokens


class TextState(NamedTuple):
    """What the transformer is told of a prompt."""

    words: Float[Tensor, "b l dc"]  # a vector for each word
    mask: Bool[Tensor, "b l"]  # which words count
    pooled: Float[Tensor, "b dc"]  # their mean


class TextBlock(nn.Module):
    """Pre-norm self-attention over the words, then an MLP."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.norm_1 = nn.LayerNorm(d)
        self.norm_2 = nn.LayerNorm(d)
        self.attention = SelfAttention(d, heads)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(approximate="tanh"), nn.Linear(4 * d, d))

    @checked
    def forward(self, x: Tokens, rope: Rope, mask: Bool[Tensor, "b 1 1 l"]) -> Tokens:
        x = x + self.attention(self.norm_1(x), rope=rope, mask=mask)
        return x + self.mlp(self.norm_2(x))


class TextEncoder(nn.Module):
    """Word ids to one vector a word and their mean; the empty caption gives ``null_text``."""

    def __init__(self, config: TextConfig, vocabulary: int):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(vocabulary, config.width)
        nn.init.normal_(self.embed.weight, std=0.5)
        self.blocks = nn.ModuleList(TextBlock(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    @checked
    def forward(self, ids: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> TextState:
        rope = rope_nd((ids.shape[1],), self.config.width // self.config.heads, device=ids.device)
        try:
            x = self.embed(ids)  #                                      b l dc
        except IndexError as error:
            found = f"ids reach from {int(ids.min())} to {int(ids.max())}"
            raise InputError(f"{found}; there are {self.embed.num_embeddings} words, from 0") from error
        for block in self.blocks:
            x = block(x, rope, mask[:, None, None])  #                  b l dc
        x = self.norm(x)
        share = mask[..., None] / mask.sum(1, keepdim=True).clamp(min=1)[..., None]
        return TextState(x, mask, (x * share).sum(1))  #                b l dc, b l, b dc
