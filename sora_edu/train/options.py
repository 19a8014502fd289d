"""What the commands ``train`` and ``distill`` can be asked for: frozen dataclasses, which the command line parses.

Nothing heavy is imported here, so that ``--help`` answers at once (lesson 10).
"""

from dataclasses import dataclass
from pathlib import Path

from sora_edu.errors import InputError


def check_out(out: Path) -> None:
    """A run needs a folder of its own; an empty name would be the current one."""
    if Path(out) == Path():
        raise InputError("--out names no folder; give the run one of its own, such as runs/mine")


def check_seed(seed: int) -> None:
    """Seeds are whole numbers of 32 bits."""
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed {seed} must be a whole number from 0 to {2**32 - 1}")


def check_counts(**counts: int | None) -> None:
    """Numbers of steps, clips and the like: at least 1 where they are given."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """A training of the VAE and then the transformer; None takes what the preset says. Raises InputError."""

    out: Path
    """Folder of the run: metrics, sample strips and checkpoints."""
    preset: str = "tiny"
    """tiny (a laptop), tiny-sizes (the same for six sizes of clips) or compact (one GPU)."""
    resume: bool = False
    """Go on from the run's last checkpoint, bit for bit."""
    seed: int = 0
    """Chooses the first weights, the clips and the noise."""
    vae: str | None = None
    """Name of a shipped checkpoint, or a path, whose VAE is taken in place of training one."""
    init: str | None = None
    """Name of a shipped checkpoint, or a path, whose transformer and VAE the training goes on from, at step 0."""
    vae_steps: int | None = None
    """Steps of the VAE, in place of the preset's."""
    dit_steps: int | None = None
    """Steps of the transformer, in place of the preset's."""
    clips: int | None = None
    """Clips whose latents the transformer learns from, in place of the preset's."""
    batch: int | None = None
    """Clips a step, over all processes, in place of the preset's."""
    frames: int | None = None
    """Frames of a clip, 1 + a multiple of 4, in place of the preset's."""
    device: str | None = None
    """cpu, cuda or mps; without it, cuda where there is one."""
    compile: bool | None = None
    """Compile the blocks; by default where a C++ compiler is found and a stage is long."""
    graphs: bool = False
    """On a GPU: record the transformer's blocks as CUDA graphs."""
    fsdp: bool = False
    """Under torchrun: cut the model into a piece for each process (FSDP2), in place of copying it (DDP)."""
    minutes: float | None = None
    """Stop after so long, at the end of a step, with exit status 0; go on with --resume."""

    def __post_init__(self):
        object.__setattr__(self, "out", Path(self.out))
        check_out(self.out)
        check_seed(self.seed)
        check_counts(
            vae_steps=self.vae_steps, dit_steps=self.dit_steps, clips=self.clips, batch=self.batch, frames=self.frames
        )
        if self.vae is not None and self.init is not None:
            raise InputError(f"--init {self.init} takes its own VAE, not --vae {self.vae}; leave one out")
        taken = self.vae or self.init
        if taken is not None and self.vae_steps is not None:
            raise InputError(f"--vae-steps {self.vae_steps} trains a VAE, and {taken} brings one; leave one out")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise InputError(f"--minutes {self.minutes} must be above 0, such as 9")


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """A student's training on a teacher's recorded walks. Raises InputError."""

    teacher: str = "tiny"
    """Name of a shipped checkpoint, or the folder of one you trained."""
    out: Path = Path("runs/student")
    """Folder for the walks, weights and metrics."""
    resume: bool = False
    """Go on with a run that was stopped; walks already recorded are kept."""
    walks: int = 12_000
    """Walks of the teacher to record, from noise to clip."""
    steps: int | None = None
    """Training steps, in place of the default."""
    batch: int | None = None
    """Walks a step, in place of the default: on a GPU 128 take hardly longer than 16."""
    seed: int = 0
    """Chooses prompts, noise and order."""
    device: str | None = None
    """cpu or cuda; by default a GPU where there is one."""
    compile: bool | None = None
    """Compile the blocks; by default where a C++ compiler is found and the run is long."""

    def __post_init__(self):
        object.__setattr__(self, "out", Path(self.out))
        check_out(self.out)
        check_seed(self.seed)
        check_counts(steps=self.steps, batch=self.batch)
        if self.walks < 1:
            raise InputError(
                f"walks={self.walks} leaves nothing to learn from; use 1 or more, 12000 for a good student"
            )
