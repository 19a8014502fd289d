"""What is said of Sora and its relatives, as cards, and the game of paper slips that its patches are compared with.

A card's verdict says whether the claim is true. Its badge says whose word settles that: OpenAI's own report or system
card, a published paper from which we infer, or nobody's (lesson 00).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from sora_edu.errors import InputError

BADGES = {
    "stated": "in OpenAI's own report or system card",
    "inferred": "from published papers, above all those that the report cites",
    "unknown": "no source settles it: rumour, guess, or open question",
}
VERDICTS = ("holds", "half right", "wrong", "not known")
REPORT, CARD = "Sora report (15 February 2024)", "Sora system card (9 December 2024)"
DIT, VIVIT, NAVIT = "DiT (2212.09748)", "ViViT (2103.15691)", "NaViT (2307.06304)"


@dataclass(frozen=True)
class Claim:
    """One card: the claim as people tell it, the verdict, the badge of the evidence, its source, and the reason.

    lesson: the one that teaches the claim's words, and shows the card.
    """

    key: str
    claim: str
    verdict: str
    badge: str
    source: str
    reason: str
    lesson: str = "00"

    def __post_init__(self):
        if self.verdict not in VERDICTS or self.badge not in BADGES:
            raise InputError(
                f"card {self.key!r}: verdict={self.verdict!r}, badge={self.badge!r}; "
                f"verdicts are {', '.join(VERDICTS)}, badges {', '.join(BADGES)}"
            )


# fmt: off
CLAIMS = (
    Claim("minute", "Sora made clips of up to a minute.", "holds", "stated", f"{REPORT}; {CARD}",
          "Sixty seconds is the length that the report names. The product of December 2024 made 20 at most, says its "
          "system card. Clips of Runway's Gen-1 and Gen-2 and of Pika lasted 3 to 4.", "03"),
    Claim("shots", "One clip of Sora's could hold several shots.", "holds", "stated", REPORT,
          "The report says so. How the model went from shot to shot it does not say.", "03"),
    Claim("captions", "Sora learned from captions that a model wrote, and your prompt was lengthened.", "holds",
          "stated", f"{REPORT}; DALL-E 3 (Betker et al. 2023)",
          "A captioner described each training video, and a language model expanded short prompts. The shares are not "
          "in the report: DALL-E 3, where the method comes from, mixed 95 % synthetic with 5 % original captions."),
    Claim("image", "An image is a video of one frame.", "holds", "stated", REPORT,
          "The same model made pictures: their noise had one frame only.", "03"),
    Claim("sizing", "One chose the size of a clip by the shape of its noise.", "holds", "stated", REPORT,
          "Patches of noise were laid out on a grid of the wished size before denoising started.", "03"),
    Claim("formats", "Sora made portrait and landscape formats up to 1080p.", "holds", "stated", REPORT,
          "1920 x 1080, 1080 x 1920, and what lies between, from one model.", "02"),
    Claim("stills", "Sora made still pictures of up to 2048 x 2048.", "holds", "stated", REPORT,
          "The size varied here too.", "02"),
    Claim("framing", "Training at native shapes framed better than training on square crops.", "holds", "stated",
          REPORT,
          "The report sets the model beside one that was trained on square crops; in that one's clips the subject is "
          "sometimes only partially in view.", "02"),
    Claim("next", "Sora predicts the next patch, as a language model predicts the next word.", "wrong", "stated",
          f"{REPORT}; {CARD}; {DIT}",
          "It was given noisy patches and predicted the clean ones. That all were denoised together, without a causal "
          "mask, is inferred, from DiT; 'foresight of many frames at a time' in the system card comes nearest."),
    Claim("resize", "Sora brings every video to one resolution first.", "wrong", "stated", REPORT,
          "The opposite: it was trained at native sizes. Resizing and cropping is what the report calls the past "
          "approach."),
    Claim("physics", "Sora contains a physics engine.", "wrong", "stated", f"{REPORT}; Physics-IQ (2501.09038)",
          "What it could do emerged 'without any explicit inductive biases', and it failed at shattering glass. The "
          "benchmark Physics-IQ finds video models' grasp of physics severely limited, and unrelated to how real they "
          "look."),
    Claim("ancestors", "Sora is built on Imagen Video and Video LDM.", "half right", "stated",
          f"{REPORT}; Imagen Video (2210.02303)",
          "The report cites both as prior work; its reference for 'diffusion transformer' is DiT. Imagen Video turns "
          "T5's text embeddings into 16 frames of 40 x 24 at 3 fps, and by a cascade of U-Nets into 128 of 1280 x 768 "
          "at 24 fps. Video LDM (LMU Munich, NVIDIA, Vector, Toronto, Waterloo) puts temporal layers into a frozen "
          "image model and interpolates twice between key frames, which are sparse in time, not turning points of a "
          "story.", "08"),
    Claim("sizes", "DiT comes in two sizes, B/2 and an XL of one billion parameters.", "wrong", "inferred",
          f"{DIT}, Table 4",
          "Four sizes (S 33M, B 130M, L 458M, XL 675M), each with patches of 2, 4 or 8: twelve models.", "08"),
    Claim("ratio", "XL needs 12 times the compute of B, so Sora is 16/12 = 1.33 times XL.", "wrong", "inferred",
          f"{DIT}, Table 4",
          "118.64 Gflops over 23.01 is 5.16, so the sum would give 16/5.16 = 3.10. The 12 stands only in a popular "
          "article, and where it comes from is not known; Saining Xie's thread (16 February 2024) says 5. The report "
          "gives no number of parameters at all. (The thread also guesses about 3B.)", "08"),
    Claim("sixteen", "16 times the compute is 16 times the quality, or the parameters.", "wrong", "inferred",
          f"{DIT}, Table 4; {REPORT}",
          "XL/8, XL/4 and XL/2 take 7.39, 29.05 and 118.64 Gflops with about 675M parameters each. (DiT counts "
          "multiply-adds: double them for FLOPs.) The report shows 1, 4 and 32 times the training compute, for fixed "
          "seeds, and is silent on parameters.", "10"),
    Claim("sit", "SiT is a 'Sequence Iterative Transformer' by the makers of DiT.", "wrong", "inferred",
          "SiT (2401.08740)",
          "Scalable Interpolant Transformers, by Ma, Goldstein, Albergo, Boffi, Vanden-Eijnden and Xie (NYU). "
          "Backbone, parameters and Gflops are DiT's; objective, interpolant and sampler change, and FID falls from "
          "2.27 to 2.06.", "07"),
    Claim("google", "DiT and NaViT both come from Google.", "wrong", "inferred", f"{DIT}; {NAVIT}",
          "NaViT does. DiT is by Peebles (Berkeley) and Xie (NYU), made at Meta's FAIR; Peebles wrote DiT and "
          "led Sora.", "08"),
    Claim("runway", "Runway uses diffusion, Sora uses a diffusion transformer: two methods.", "wrong", "inferred",
          f"{DIT}; LDM (2112.10752)",
          "Diffusion is the process; U-Net or transformer is the network inside it. Swap the network, keep the loss."),
    Claim("decoder", "Sora's transformer has an encoder for the noisy input and a decoder that predicts the clean "
          "picture.", "wrong", "inferred", DIT,
          "DiT is one stack of equal blocks and a linear head. 'Decoder' has three senses: half of a translation "
          "transformer, a transformer with a causal mask, and the half of a VAE that turns latents into pixels.", "05"),
    Claim("blur", "Diffusion makes pictures blurred, then sharpens them.", "wrong", "inferred", "DDPM (2006.11239)",
          "It scales the signal down and adds Gaussian noise. Blur is deterministic and lowers high frequencies; noise "
          "raises them. (Of Sora, OpenAI says that it started from what looks like static noise and removed it over "
          "many steps: stated.)"),
    Claim("tower", "The film tower, an amoeba that reaches through the frames, is a patch.", "half right", "inferred",
          f"{REPORT}; {VIVIT}",
          "A good picture of reach in time. But the patches are regular boxes, of a latent and not of pixels.", "03"),
    Claim("tubelets", "Tubelets mean factorised attention, flat frame tokens mean frame attention.", "wrong",
          "inferred", f"{VIVIT}, section 3",
          "Both are ways to cut, and neither decides who attends to whom. Neither overlaps: that takes a stride below "
          "the patch (224 pixels, patch 16, stride 8: 729 tokens, not 196). And the word is tubelet.", "04"),
    Claim("slips", "36 slips of paper make 720 scenes.", "half right", "inferred", "no paper: counted in this lesson",
          "It depends on what a pile is: 46,656 sentences, or 720 among 46,656 draws. And patches are no slips."),
    Claim("packets", "Sora repeats short videos, drops similar patches of long ones and packs fixed packets.",
          "not known", "unknown", f"not in the {REPORT}; {NAVIT}",
          "NaViT packs sequences, and drops tokens at random, at a rate that varies by image. For Sora: options.",
          "03"),
    Claim("batch", "Sora varies its batch size with the length of the clips.", "not known", "unknown",
          f"not in the {REPORT}; Open-Sora",
          "An open clone does (at 256 pixels, 45 clips of 1 frame but 3 of 101). That says nothing of the original.",
          "10"),
    Claim("sparse", "Sora saves compute by sparse attention.", "not known", "unknown", f"not in the {REPORT}; W.A.L.T",
          "No kind of attention is named. W.A.L.T looks through windows, Open-Sora-Plan 1.3 in strides.", "04"),
    Claim("games", "Sora was trained on game engines and documentaries.", "not known", "unknown", f"not in the {CARD}",
          "The card names public data, partnerships (Shutterstock Pond5 among them, and commissioned sets), data "
          "developed in-house, and human feedback."),
    Claim("weights", "Diffusing a network's weights saves 90 % of the compute of training it.", "not known", "unknown",
          "G.pt (2209.12892); Neural Network Diffusion (2402.13144)",
          "No source found. G.pt learned from 23M checkpoints of over 100,000 runs, for tiny networks; Neural Network "
          "Diffusion made 2,048 batch-norm weights from 300 checkpoints. Those runs have to be paid for first: count "
          "how many generated networks it takes to break even (lesson 16, planned)."),
    Claim("data", "Transformers need huge data; on small data convolutions win.", "not known", "unknown",
          "ViT (2010.11929)",
          "ViT's evidence is about telling pictures apart, not making them. Lesson 13 (planned) tries it at equal "
          "compute.", "08"),
)
# fmt: on


def of_lesson(lesson: str) -> list[Claim]:
    """The cards that a lesson shows, in the order of CLAIMS."""
    return [card for card in CLAIMS if card.lesson == lesson]


def table(cards: list[Claim]) -> str:
    """Cards as a Markdown table."""
    rows = [f"| {c.claim} | **{c.verdict}** | {c.badge} | {c.reason} | {c.source} |" for c in cards]
    return "\n".join(["| Claim | Verdict | Badge | Why | Source |", "|---|---|---|---|---|", *rows])


# --- the game of paper slips -----------------------------------------------------------------------------------------

ROLES = ("which", "who", "does", "what", "where", "when")
SLIPS = (  # a line an author, a column a role
    ("sleepy", "octopus", "polishes", "a lighthouse", "under the sea", "at midnight"),
    ("golden", "robot", "paints", "a bicycle", "on the roof", "before breakfast"),
    ("tiny", "giraffe", "follows", "a balloon", "through the snow", "in spring"),
    ("nervous", "pirate", "repairs", "a piano", "in the desert", "by candlelight"),
    ("paper", "dragon", "juggles", "six lemons", "behind the school", "every Sunday"),
    ("striped", "astronaut", "waters", "a cactus", "on the moon", "after the rain"),
)


class Slip(NamedTuple):
    """One of the 36 slips: which role its word plays, and which author wrote it."""

    role: int
    author: int


def take_slips(colour: str, picks: tuple[int, ...]) -> tuple[Slip, ...]:
    """Take slip ``picks[i]`` from pile i, where a pile's colour means a ``role`` (of six authors) or an ``author``."""
    if colour not in ("role", "author"):
        raise InputError(f"colour={colour!r} means nothing here; use role or author")
    return tuple(Slip(pile, pick) if colour == "role" else Slip(pick, pile) for pile, pick in enumerate(picks))


def draw_slips(colour: str, *, generator: torch.Generator | None = None) -> tuple[Slip, ...]:
    """Draw one slip from each of the six piles, blindly: every one of the 6^6 draws is equally likely."""
    return take_slips(colour, tuple(torch.randint(6, (6,), generator=generator).tolist()))


def is_sentence(slips: tuple[Slip, ...]) -> bool:
    """True where every role is there exactly once, so that the slips can be laid out as a sentence."""
    return sorted(slip.role for slip in slips) == list(range(len(ROLES)))


def read_slips(slips: tuple[Slip, ...]) -> str:
    """The words, laid out by role if they make a sentence, else as they were drawn."""
    whole = is_sentence(slips)
    texts = [SLIPS[slip.author][slip.role] for slip in (sorted(slips) if whole else slips)]
    return " ".join(["a" if whole else "?", *texts])
