"""A motion read from a path: each law of the toy world fitted by least squares, and the one that explains it best.

Every law is a weighted sum of known curves (a constant, a line, a parabola, ...), so a fit is one small linear
system. What is not linear, the moment of an impact or the speed of an orbit, is tried on a grid (lesson 01).
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.world.paths import TICKS, bounce
from sora_edu.world.vocabulary import MOTIONS

NOTHING, UNCLEAR = -1, -2  # what an index says where it names nothing

LEAST_TRAVEL = 3.0  # units; the world's slowest motion covers more than twice as much
LEAST_DRIFT = 2.0  # units over the clip; between this and LEAST_TRAVEL an object neither moves nor stays
LARGEST_ERROR = 1.0  # units; a path farther than this from every law follows none
LEAST_FRAMES = 5  # fewer cannot tell one law from another
NOISE = 0.15  # units of centroid noise that no law is blamed for
MARGIN = 4.0  # by how much the best law's score must beat the next motion's


def _columns(*columns: tuple) -> Float[Tensor, "n p"]:
    """A design matrix from columns that each hold one curve per coordinate."""
    return torch.stack([torch.cat(column) for column in columns], -1)


def laws(frames: int, duration: float = TICKS) -> dict[str, Float[Tensor, "m n p"]]:
    """The design matrices of each law, x coordinates above y: m tries of what is not linear, p coefficients.

    Time runs from 0 to 1 over the clip. The first two coefficients are the place, the others the law's own. In a clip
    that lasts longer than 16 ticks an orbit turns farther and a ball bounces more than once.
    """
    longer = max(duration / TICKS, 1.0)
    t = torch.linspace(0, 1, frames, dtype=torch.float64)
    one = torch.ones_like(t)
    zero = torch.zeros_like(t)
    place = ((one, zero), (zero, one))

    def bounce_once(hit):  # g t^2 / 2 down to the impact, then a rise at e times the speed: linear in g and e g
        after = (t - hit).clamp(min=0)
        fall = torch.where(t < hit, t**2, hit**2 + after**2) / 2
        return _columns(*place, (zero, fall), (zero, -hit * after))

    def bounce_often(hit, rebound):  # every impact leaves the same share: linear in g alone
        hit, rebound = t.new_tensor([[[hit]], [[rebound]]])  # 1 1
        return _columns(*place, (zero, bounce(t, hit**2 / 2, hit, rebound)[0]))

    def orbit(turns):
        cos = (2 * math.pi * turns * t).cos()
        sin = (2 * math.pi * turns * t).sin()
        return _columns(*place, (cos, sin), (-sin, cos))

    bends = torch.linspace(0.3, 0.7, 21).tolist()
    turns = (torch.linspace(0.45, 1.25, 1 + round(32 * longer)) * longer).tolist()
    hits = (torch.linspace(0.3, 0.7, 41) / longer).tolist()
    if longer == 1:
        bounces = [bounce_once(hit) for hit in hits]
    else:
        bounces = [bounce_often(hit, share) for hit in hits for share in torch.linspace(0.7, 1.05, 15).tolist()]
    return {
        "still": _columns(*place)[None],
        "sideways": _columns(*place, (t, zero))[None],
        "upright": _columns(*place, (zero, t))[None],
        "falls": _columns(*place, (zero, t**2 / 2))[None],
        "bounces": torch.stack(bounces),
        "orbits": torch.stack([orbit(sign * turn) for turn in turns for sign in (1, -1)]),
        # Not motions of one object alone, and not to be read as such: it stops, starts or turns round (UNCLEAR).
        "bent sideways": torch.stack(
            [_columns(*place, (t.clamp(max=hit), zero), ((t - hit).clamp(min=0), zero)) for hit in bends]
        ),
        "bent upright": torch.stack(
            [_columns(*place, (zero, t.clamp(max=hit)), (zero, (t - hit).clamp(min=0))) for hit in bends]
        ),
    }


@checked
def least_squares(
    design: Float[Tensor, "m n p"], target: Float[Tensor, "b n"], weight: Float[Tensor, "b n"]
) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b n"], Float[Tensor, "b"]]:
    """Fit each target by the best of m designs: coefficients, fitted values, and the sum of squared residuals."""
    products = design[..., :, None] * design[..., None, :]  # m n p p
    normal = torch.einsum("bn,mnpq->bmpq", weight, products)
    normal = normal + 1e-9 * torch.eye(design.shape[-1], dtype=design.dtype, device=design.device)
    right = torch.einsum("bn,mnp->bmp", weight * target, design)
    coefficients = torch.linalg.solve(normal, right[..., None])[..., 0]  # b m p
    fitted = torch.einsum("mnp,bmp->bmn", design, coefficients)
    squares = (weight[:, None] * (fitted - target[:, None]) ** 2).sum(-1)
    best = squares.argmin(1)
    rows = torch.arange(len(target), device=target.device)
    return coefficients[rows, best], fitted[rows, best], squares[rows, best]


@checked
def growth(radius: Float[Tensor, "b f"], visible: Bool[Tensor, "b f"]) -> tuple[Tensor, Tensor]:
    """The straight line through the radii: its value at the start, and its change over the clip relative to that."""
    t = torch.linspace(0, 1, radius.shape[1], dtype=torch.float64, device=radius.device)
    line = torch.stack((torch.ones_like(t), t), -1)[None]
    coefficients, _, _ = least_squares(line, radius.double(), visible.double())
    start, change = coefficients.unbind(-1)
    return start, change / start.clamp(min=0.1)


@checked
def fit_motion(
    centre: Float[Tensor, "b f 2"],
    radius: Float[Tensor, "b f"],
    visible: Bool[Tensor, "b f"],
    duration: float = TICKS,
) -> tuple[Int[Tensor, "b"], Float[Tensor, "b f 2"], Float[Tensor, "b"]]:
    """Read the motion of each path (units, in the world's frame), with the path of its law and the RMS distance to it.

    The laws compete by their Bayesian information criterion; one that hardly moves, or that runs against gravity,
    may not enter. The motion is UNCLEAR where no law fits, where two fit alike, or with fewer than 5 visible frames.
    """
    b, f, _ = centre.shape
    target = torch.nan_to_num(centre.double()).transpose(1, 2).reshape(b, 2 * f)  # x above y
    seen = visible.double()
    weight = torch.cat((seen, seen), 1)
    count = weight.sum(1).clamp(min=1)
    score, error, path, motion = [], [], [], []  # of each law
    drift = torch.zeros(b, device=centre.device)
    for name, design in laws(f, duration).items():
        own, fitted, squares = least_squares(design.to(centre.device), target, weight)
        fitted = fitted.view(b, 2, f).transpose(1, 2)
        travel = (fitted.amax(1) - fitted.amin(1)).amax(1)
        index, allowed = _meaning(name, own, travel)
        free = design.shape[-1] + (len(design) > 1)  # a value tried on a grid is a coefficient too
        bic = count * (squares / count + NOISE**2).log() + free * count.log()
        if name in ("sideways", "upright"):
            drift = torch.maximum(drift, own[:, 2].abs())
        score.append(torch.where(allowed, bic, torch.inf))
        error.append((squares / count).sqrt() * math.sqrt(2))  # a distance has two coordinates
        path.append(fitted)
        motion.append(index)
    score, error, path, motion = (torch.stack(x, 1) for x in (score, error, path, motion))
    best = score.argmin(1)
    rows = torch.arange(b, device=centre.device)
    rivals = torch.where(motion == UNCLEAR, torch.inf, score).topk(2, dim=1, largest=False).values
    beaten = rivals[:, 1] - rivals[:, 0] > MARGIN
    error, path, motion = error[rows, best], path[rows, best], motion[rows, best]
    clear = beaten & (motion != UNCLEAR) & (error < LARGEST_ERROR) & (visible.sum(1) >= LEAST_FRAMES)
    _, change = growth(radius, visible)
    still = motion == MOTIONS.index("still")
    motion = torch.where(still & (change > 0.25), MOTIONS.index("grows"), motion)
    motion = torch.where(still & (change < -0.25), MOTIONS.index("shrinks"), motion)
    clear &= ~still | (drift < LEAST_DRIFT)
    # Between a size that stays and one that grows, and for a size that changes under way, there is no word.
    clear &= torch.where(still, (change.abs() < 0.15) | (change.abs() > 0.25), change.abs() < 0.35)
    return torch.where(clear, motion, UNCLEAR), path.to(centre.dtype), error.to(centre.dtype)


def _meaning(name: str, own: Float[Tensor, "b p"], travel: Float[Tensor, "b"]) -> tuple[Tensor, Tensor]:
    """The motion that a fitted law stands for, and whether its coefficients may be called so."""
    index = torch.full((len(own),), MOTIONS.index(name) if name in MOTIONS else UNCLEAR, device=own.device)
    allowed = travel > LEAST_TRAVEL
    if name == "still":
        allowed = torch.ones_like(allowed)
    elif name == "sideways":
        index = torch.where(own[:, 2] > 0, MOTIONS.index("right"), MOTIONS.index("left"))
    elif name == "upright":
        index = torch.where(own[:, 2] > 0, MOTIONS.index("down"), MOTIONS.index("up"))
    elif name == "falls":
        allowed &= own[:, 2] > 0
    elif name == "bounces":  # a rebound keeps some of the speed, and makes none
        allowed &= own[:, 2] > 0
        if own.shape[1] > 3:  # one impact: its rebound was fitted
            rebound = own[:, 3] / own[:, 2].clamp(min=1e-6)
            allowed &= (rebound > 0.4) & (rebound < 1.3)
    elif name.startswith("bent"):
        before = own[:, 2]
        after = own[:, 3] * before.sign()
        stops = (after < 0.25 * before.abs()) & (before.abs() > LEAST_TRAVEL)
        starts = (before.abs() < 0.25 * after.abs()) & (name == "bent sideways")  # upright, a fall looks like that
        allowed &= stops | starts
    return index, allowed


@checked
def fit_collision(
    centre: Float[Tensor, "b k=2 f 2"], visible: Bool[Tensor, "b k=2 f"]
) -> tuple[Bool[Tensor, "b"], Int[Tensor, "b k=2"], Float[Tensor, "b k=2 f 2"], Float[Tensor, "b"]]:
    """Whether the first object meets the second and hands its whole velocity over, as equal masses on a line do.

    One speed serves both: x_1 = a + v min(t, hit), x_2 = b + v max(t - hit, 0). Returns the verdict, the motions
    (left or right before the impact, still), the fitted paths and the RMS distance to them in units.
    """
    b, _, f, _ = centre.shape
    t = torch.linspace(0, 1, f, dtype=torch.float64, device=centre.device)
    one = torch.ones_like(t)
    zero = torch.zeros_like(t)
    designs = [
        _columns(  # x_1, y_1, x_2, y_2
            (one, zero, zero, zero),
            (zero, one, zero, zero),
            (zero, zero, one, zero),
            (zero, zero, zero, one),
            (t.clamp(max=hit), zero, (t - hit).clamp(min=0), zero),
        )
        for hit in torch.linspace(0.25, 0.7, 46).tolist()
    ]
    target = torch.nan_to_num(centre.double()).transpose(2, 3).reshape(b, 4 * f)
    weight = visible.double()[:, :, None].expand(b, 2, 2, f).reshape(b, 4 * f)
    own, fitted, squares = least_squares(torch.stack(designs), target, weight)
    fitted = fitted.view(b, 2, 2, f).transpose(2, 3)
    error = (2 * squares / weight.sum(1).clamp(min=1)).sqrt()
    travel = (fitted[..., 0].amax(2) - fitted[..., 0].amin(2)).amin(1)
    enough = (visible.sum(2) >= LEAST_FRAMES).all(1)
    towards = own[:, 4] * (own[:, 2] - own[:, 0]) > 0
    found = enough & towards & (travel > LEAST_TRAVEL) & (error < LARGEST_ERROR)
    first = torch.where(own[:, 4] > 0, MOTIONS.index("right"), MOTIONS.index("left"))
    motion = torch.stack((first, torch.full_like(first, MOTIONS.index("still"))), 1)
    return found, motion, fitted.to(centre.dtype), error.to(centre.dtype)
