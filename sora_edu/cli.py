"""The command `sora-edu`: each sub-command is a thin layer over one function of the library.

Heavy imports are inside the functions, so that `--help`, `--version` and a mistyped option answer at once.
"""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from itertools import pairwise
from json import dumps
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg
from tyro.extras import SubcommandApp

from sora_edu import __version__
from sora_edu.errors import (
    InputError,
    MediaError,
    OtherFailed,
    PromptError,
    PromptWarning,
    RunWarning,
    SoraError,
    Stopped,
    printable,
)
from sora_edu.train.options import DistillOptions, TrainOptions, check_seed

app = SubcommandApp()


def parse_size(size: str) -> tuple[int, int]:
    """`32x48` to (32, 48): height and width in pixels."""
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", size.strip().lower())
    if match is None:
        raise InputError(f"--size {size!r} is not HEIGHTxWIDTH in pixels, such as 32x32")
    return int(match[1]), int(match[2])


def clip_paths(out: Path, count: int) -> list[Path]:
    """`clip.gif` itself for one clip; `clip-1.gif`, `clip-2.gif`, ... for several. No prompt enters a file name."""
    from sora_edu.files import check_target
    from sora_edu.media.writing import clip_ending

    try:
        clip_ending(out)
        check_target(out, error=MediaError, example="clip.gif")
    except MediaError as error:
        raise MediaError(f"--out {error}") from None
    if count == 1:
        return [out]
    ending = ".strip.png" if out.name.lower().endswith(".strip.png") else out.suffix
    stem = out.name[: -len(ending)]
    return [out.with_name(f"{stem}-{i:0{len(str(count))}}{ending}") for i in range(1, count + 1)]


def check_json(path: Path | None) -> None:
    """Refuse a file for figures that could not be written, before they are measured."""
    from sora_edu.files import check_target

    try:
        if path is not None:
            check_target(path)
    except InputError as error:
        raise InputError(f"--json {error}") from None


def report(path: Path, notes: tuple[str, ...]) -> None:
    """Print the path of a clip that was written, and on stderr what its format could not keep."""
    for note in notes:
        print(f"note: {one_line(path)}: {note}", file=sys.stderr)
    print_path(path)


def same_file(a: Path, b: Path) -> bool:
    """Whether two paths lead to one file, however they are spelt: by a link, `./`, or the other case."""
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):  # one of them is not there, or is no path at all
        return False


def print_path(path: Path) -> None:
    """The path of a file that was written, as typed but for characters that a terminal would act on."""
    print(printable(str(path)))


MEANS = {"velocity_error": "units a tick", "centroid_error": "units", "psnr": "dB"}  # the other intervals are of shares
MEANS |= {"first_frame_error": "of 2", "seam_ratio": "times"}


def as_table(results: dict) -> str:
    """One line for each figure; shares as per cent, each with its interval."""
    return "\n".join(f"{name:<32} {text}" for name, text in _figures(results))


def _figures(results: dict) -> Iterator[tuple[str, str]]:
    for name, entry in results.items():
        if not isinstance(entry, dict):
            yield name, f"{entry:.3g}" if isinstance(entry, float) else str(entry)
        elif "value" not in entry:
            yield from _figures({f"{name} {key}": inner for key, inner in entry.items()})
        elif entry["value"] is None:
            yield name, "nothing to measure"
        else:
            unit = next((unit for key, unit in MEANS.items() if key in name), "%")
            value, low, high = ((100 if unit == "%" else 1) * entry[key] for key in ("value", "low", "high"))
            yield name, f"{value:.4g} {unit}  (95 % interval {low:.4g} to {high:.4g})"
            yield from _figures({f"{name} {key}": inner for key, inner in entry.items() if isinstance(inner, dict)})


def tell(note: str | None) -> None:
    if note is not None:
        print(f"note: {one_line(note)}", file=sys.stderr)


def quotes_note(prompts: tuple[str, ...]) -> str | None:
    """A note where single words follow each other: someone may have left the quotes out."""
    single = [len(prompt.split()) == 1 for prompt in prompts]
    if not any(first and second for first, second in pairwise(single)):
        return None
    note = f"{len(prompts)} prompts make {len(prompts)} clips; for one clip put all words in double quotes"
    whole = " ".join(prompts)
    return f'{note}: "{whole}"' if len(whole) <= 80 and '"' not in whole else note


def untrained_note(preset, frames: int | None, size: tuple[int, int] | None) -> str | None:
    """A note where clips of another size are asked for than those that the checkpoint of ``preset`` was trained on."""
    world = preset.world
    own = (world.frames, world.height, world.width)
    trained = [own, *preset.other_sizes]
    asked = (frames or own[0], *(size or own[1:]))
    if asked in (*trained, (1, *own[1:])):  # single frames are trained on, too
        return None
    *names, odd = ["x".join(map(str, shape)) for shape in (*trained, asked)]
    listed = ", ".join(names)
    return f"this checkpoint was trained at {listed}, frames x height x width; clips of {odd} may be unreadable"


@app.command
def sample(
    prompts: Positional[tuple[str, ...]] = (),
    *,
    out: Path,
    checkpoint: str = "tiny",
    frames: int | None = None,
    size: str | None = None,
    steps: int | None = None,
    cfg_scale: float | None = None,
    negative: str | None = None,
    seed: int = 0,
) -> None:
    """Generate a clip from each prompt, and print the path of each.

    Example: sora-edu sample "a red circle falls" --out clip.gif

    Args:
        prompts: What to show, each in double quotes. Several prompts write clip-1.gif, clip-2.gif, ...
        out: File to write; its ending chooses .gif, .png (animated), .webp, .mp4, or .strip.png for a strip of stills.
        checkpoint: Name of a shipped checkpoint, or the folder of one you trained.
        frames: Number of frames, 1 + a multiple of 4; the checkpoint's own unless given, 17 for tiny.
        size: HEIGHTxWIDTH in pixels; the checkpoint's own unless given, 32x32 for tiny.
        steps: Sampling steps: more are slower and finer. The checkpoint's own unless given: tiny 25, tiny-student 4.
        cfg_scale: Guidance: 1 takes the prompt as it is, more insists on it, 0 ignores it. tiny 3, tiny-student 1.
        negative: What not to show, in double quotes: guidance leads away from it. Needs a cfg-scale above 1.
        seed: Chooses the noise: clip i starts from that of (seed, i), so the same seed, prompt and place among the
            prompts give the same clip; bit for bit with the same number of threads.
    """
    if not prompts:
        raise PromptError('no prompt given; say what to show: sora-edu sample "a red circle falls" --out clip.gif')
    height_width = None if size is None else parse_size(size)
    check_seed(seed)
    paths = clip_paths(out, len(prompts))
    tell(quotes_note(prompts))
    from sora_edu.media import save_clip
    from sora_edu.pipeline import Pipeline

    pipe = Pipeline.load(checkpoint)
    tell(untrained_note(pipe.preset, frames, height_width))
    drawn = {"steps": steps, "cfg_scale": cfg_scale, "negative": negative, "seed": seed}
    videos = pipe(list(prompts), frames=frames, size=height_width, **drawn)
    out.parent.mkdir(parents=True, exist_ok=True)
    for video, path in zip(videos, paths, strict=True):
        report(path, save_clip(video, path))


def unchecked(kind: type) -> type:
    """Options whose checks wait: tyro would put an error of theirs into a box of its own. The command checks them."""
    return type(kind.__name__, (kind,), {"__doc__": kind.__doc__, "__post_init__": lambda self: None})


@app.command
def train(options: Annotated[unchecked(TrainOptions), arg(name="")]) -> None:
    """Train the VAE and then the transformer, from nothing; kill it at any time and go on with --resume.

    Example: sora-edu train --preset tiny --out runs/mine

    On several GPUs: torchrun --nproc-per-node 8 -m sora_edu.cli train --preset compact --out runs/mine
    """
    options = TrainOptions(**vars(options))
    from sora_edu.train.distributed import environment
    from sora_edu.train.recipe import train as run

    try:
        answer, stream = str(run(options)), sys.stdout
    except Stopped as stop:
        if stop.signal:
            raise
        answer, stream = f"time is up, and the state is saved: add --resume to go on in {options.out}", sys.stderr
    if environment()[0] == 0:  # of several processes one answers
        print(printable(answer), file=stream)


@app.command
def plan(
    *,
    preset: str = "tiny",
    gpus: int = 1,
    device: str = "h100",
    fsdp: bool = False,
    tokens: float | None = None,
    batch: int | None = None,
    tflops: float | None = None,
    share: float | None = None,
) -> None:
    """Estimate memory, throughput and time of a training before it starts, and say what is assumed.

    Example: sora-edu plan --preset compact --gpus 8 --device h100 --tokens 5e9

    Args:
        preset: tiny, tiny-sizes or compact.
        gpus: Devices that share each batch.
        device: h200, h100, a100, rtx4090 or l4; cpu measures this machine's.
        fsdp: The devices share the model's memory too (FSDP2).
        tokens: Latent patches that the transformer trains on, in place of the preset's steps.
        batch: Clips a step over all devices, in place of the preset's.
        tflops: Peak of one device in TFLOP/s, in place of the known one.
        share: Share of the peak that training reaches, in place of the known one.
    """
    if batch is not None and batch < 1:
        raise InputError(f"--batch {batch} must be at least 1")
    from sora_edu.train.devices import find_device
    from sora_edu.train.plan import make_plan, report
    from sora_edu.train.recipe import choose_preset

    chosen = choose_preset(preset, batch=batch)
    where = find_device(device, peak=None if tflops is None else 1e12 * tflops, share=share)
    plans = make_plan(chosen, where, gpus=gpus, fsdp=fsdp, tokens=tokens)
    devices = f"{gpus} x {device}, {'FSDP2' if fsdp else 'DDP'}" if gpus > 1 else f"one {device}"
    print(f"preset {preset} on {devices}\n")
    print(report(plans, where))


@app.command
def distill(options: Annotated[unchecked(DistillOptions), arg(name="")]) -> None:
    """Train a student that draws a clip in four steps without guidance, from a trained model's recorded walks.

    Example: sora-edu distill --teacher tiny --out runs/student
    """
    options = DistillOptions(**vars(options))
    from sora_edu.train.distillation import distill as run

    print_path(run(options))


@app.command
def evaluate(
    *,
    checkpoint: str = "tiny",
    split: Literal["seen", "heldout", "pairs"] = "seen",
    n: int = 512,
    json: Path | None = None,
    steps: int | None = None,
    cfg_scale: float | None = None,
    frames: int | None = None,
    size: str | None = None,
    given: Literal["nothing", "first"] = "nothing",
    seed: int = 0,
) -> None:
    """Measure how often clips show what the prompt says, with 95 % intervals, and how well they move.

    Example: sora-edu evaluate --checkpoint tiny --split heldout --n 512 --json heldout.json

    Args:
        checkpoint: Name of a shipped checkpoint, or the folder of one you trained.
        split: Prompts of trained combinations, of combinations held out of training, or of two objects.
        n: Number of prompts, at most 10,000.
        json: File for the figures; without it they are only printed.
        steps: Sampling steps; the checkpoint's own unless given.
        cfg_scale: Guidance; the checkpoint's own unless given.
        frames: Number of frames, 1 + a multiple of 4; the checkpoint's own unless given.
        size: HEIGHTxWIDTH in pixels; the checkpoint's own unless given.
        given: What each clip begins with: nothing, or the first frame of its prompt's rendering.
        seed: Chooses the prompts and the noise.
    """
    check_seed(seed)
    height_width = None if size is None else parse_size(size)
    from sora_edu.checkpoint import write_atomically
    from sora_edu.evaluate import evaluate_checkpoint

    check_json(json)
    filmed = {"frames": frames, "size": height_width, "given": given}
    results = evaluate_checkpoint(checkpoint, split=split, n=n, steps=steps, cfg_scale=cfg_scale, seed=seed, **filmed)
    print(as_table(results))
    if json is not None:
        write_atomically(json, (dumps(results, indent=2) + "\n").encode())
        print_path(json)


@app.command
def reconstruct(
    file: Positional[Path], *, out: Path, checkpoint: str = "tiny", max_side: int = 256, max_frames: int = 65
) -> None:
    """Send a photograph or video of yours through the VAE and back; write the two side by side.

    Example: sora-edu reconstruct photo.jpg --out photo.strip.png

    Args:
        file: Any image or video file.
        out: File to write; its ending chooses the format as in `sample`.
        checkpoint: Name of a shipped checkpoint, or the folder of one you trained.
        max_side: Larger pictures are shrunk until their longer side is this many pixels.
        max_frames: Longer videos are cut to this many frames at most.
    """
    clip_paths(out, 1)
    from sora_edu.media import fit_to_patches, load_clip, save_clip, side_by_side
    from sora_edu.media.writing import FPS_RANGE
    from sora_edu.model.vae import psnr
    from sora_edu.pipeline import Pipeline

    if same_file(file, out):
        raise MediaError(f"--out {out} is the file that is read, and would be lost; give another name")
    clip = load_clip(file, max_frames=max_frames, short_side=max_side)
    pipe = Pipeline.load(checkpoint)
    config, (_, ph, pw) = pipe.preset.vae, pipe.preset.dit.patch
    video, notes = fit_to_patches(clip.video, unit=config.fs * max(ph, pw), max_side=max_side, stride=config.ft)
    restored = pipe.reconstruct(video)

    channels, *cells = config.latent_shape(*video.shape[2:])
    height, width = clip.video.shape[-2:]
    print(f"read     {clip.video.shape[2]} x {height} x {width} pixels, frames x height x width, from {one_line(file)}")
    if min(height, width) == max_side:  # load_clip has shrunk it, unless it had this very size
        print(f"         larger pictures are shrunk while reading, to a shorter side of {max_side} (--max-side)")
    for note in (*clip.notes, *notes):
        print(f"         {note}")
    print(f"latent   {' x '.join(map(str, cells))} cells of {channels} values, frames x height x width")
    print(f"patches  {cells[0] * (cells[1] // ph) * (cells[2] // pw)} of 1x{ph}x{pw} cells")
    print(f"PSNR     {psnr(video, restored).mean():.2f} dB")
    fps = min(max(clip.fps, FPS_RANGE[0]), FPS_RANGE[1])
    if fps != clip.fps:
        print(f"         written at {fps:g} frames a second instead of {clip.fps:g}")
    out.parent.mkdir(parents=True, exist_ok=True)
    report(out, save_clip(side_by_side(video, restored), out, fps=fps))


@app.command
def bench(
    *,
    suite: Literal["step", "sample", "vae", "attention", "data", "quality", "all"] = "all",
    json: Path | None = None,
    rounds: int = 11,
    minutes: float = 20.0,
    tolerance: float = 0.1,
    device: str = "cpu",
    fp32: bool = False,
    smoke: bool = False,
) -> None:
    """Time training, sampling and data against other libraries, and hold the ratios against the project's floors.

    Floors hold for the kind of processor that they were set on; on others nothing is judged. Exit status 1 where a
    floor is missed or could not be decided. Let the machine rest: rounds that other programs disturb are thrown away.

    Example: sora-edu bench --suite step --json step.json

    Args:
        suite: step, sample, vae and quality need the extra: pip install -c constraints.txt -e ".[bench]". quality is no
            part of all: it trains our recipe and a textbook one, two seeds each, and says how good they become.
        json: File for the figures; without it they are only printed.
        rounds: Undisturbed rounds to collect, seven or more.
        minutes: Of each training of the suite quality; what is stopped goes on in runs/quality.
        tolerance: Share of one core that other programs may take beside a contestant.
        device: cpu or cuda.
        fp32: Leave bf16 products off, as on a processor without them; the figures say that it was forced.
        smoke: Tiny sizes and two rounds, to see that everything runs; judges nothing.
    """
    from sora_edu.bench.machine import describe
    from sora_edu.bench.report import all_met, as_text, summary
    from sora_edu.bench.run import run_suite
    from sora_edu.bench.suites import SUITES
    from sora_edu.checkpoint import write_atomically
    from sora_edu.compute import choose_device

    check_json(json)
    if suite == "quality":
        from sora_edu.bench.quality import RECORD, train_all

        return train_all(minutes=minutes, record=json or RECORD, smoke=smoke)
    where = choose_device(device)
    machine, results = describe(where, fp32=fp32), {}
    print(f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, torch {machine['torch']}")
    print(f"kind of processor: {machine['kind']}")
    if not machine["load_seen"]:
        print("note: this system does not say what other programs take, so no round is dropped for it")
    for name in SUITES if suite == "all" else [suite]:
        results[name] = run_suite(name, rounds=rounds, tolerance=tolerance, smoke=smoke, device=where, fp32=fp32)
        print(f"\n{as_text(name, results[name])}\n", flush=True)
        if json is not None:  # after each suite: a later one may be killed
            write_atomically(json, (dumps({"machine": machine, "suites": results}, indent=2) + "\n").encode())
    if json is not None:
        print_path(json)
    print("smoke: everything ran, nothing was judged" if smoke else summary(results))
    if not smoke and not all_met(results):
        sys.exit(1)


@app.command
def checks(*, prove: bool = False, lesson: str | None = None, json: Path | None = None) -> None:
    """List the exercises of the lessons with their checks, or prove that the checks tell right from wrong.

    Each check gets its solution in all forms, misconceptions and mutants of it, and hostile answers. Exit status 1
    where fewer than 100 % of the right ones are accepted, 99 % of the wrong ones caught, 80 % of the misconceptions
    named, or 100 % of the hostile ones handled.

    Example: sora-edu checks --prove --lesson 04

    Args:
        prove: Try the checks, in about two minutes for all lessons, and print a table and every failure.
        lesson: Only this one, such as 04.
        json: File for what was found, mutants that come to the same as the solution by name.
    """
    if json is not None and not prove:
        raise InputError("--json holds what --prove finds; give both")
    check_json(json)
    from sora_edu.course.exercises import find_exercises, listing

    if not prove:
        return print(listing(find_exercises(lesson)))
    from sora_edu.checkpoint import write_atomically
    from sora_edu.course.proving import as_json, holds, prove_all, report

    proofs = prove_all(lesson)
    if json is not None:
        write_atomically(json, (dumps(as_json(proofs), indent=2) + "\n").encode())
        print_path(json)
    print(report(proofs))
    if not holds(proofs):
        sys.exit(1)


@app.command
def doctor() -> None:
    """Report what this machine offers, what is wrong with it, and how to mend it. Exit status 1 if anything is wrong.

    Example: sora-edu doctor
    """
    from sora_edu.doctor import examine, report

    findings = examine()
    print(report(findings))
    if any(finding.state == "problem" for finding in findings):
        sys.exit(1)


def one_line(message: object) -> str:
    """Inert text for a terminal: no line breaks, and what cannot be printed is spelt out."""
    return printable(" ".join(str(message).split()))


def explain(error: BaseException) -> str | None:
    """The line to print in place of a traceback, or None for what must be a fault of ours."""
    if isinstance(error, SoraError):
        return one_line(error)
    if isinstance(error, OSError):
        return one_line(f"{error.filename}: {error.strerror}" if error.filename else error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _out_of_memory(error)):
        return "out of memory; take a smaller --size, fewer --frames, or fewer prompts at a time"
    return None


def _out_of_memory(error: RuntimeError) -> bool:
    from sora_edu.compute import out_of_memory

    return out_of_memory(error)


def show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    if issubclass(category, PromptWarning | RunWarning):
        print(f"warning: {one_line(message)}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr, end="")


def leave_quietly() -> None:
    """End as a program does whose reader has enough, such as `head`: no message, status 128 + SIGPIPE."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed goes nowhere
    sys.exit(141)


def main(args: list[str] | None = None) -> None:
    """Run one command; a user's mistake ends in one line `error: ...` on stderr and exit status 2."""
    args = sys.argv[1:] if args is None else args
    if args == ["--version"]:
        print(f"sora-edu {__version__}")
        return
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack the letters of a prompt or path
    description = "Small text-to-video diffusion on your own machine. --version prints the version."
    with warnings.catch_warnings():
        warnings.simplefilter("always", PromptWarning)
        warnings.simplefilter("always", RunWarning)
        warnings.showwarning = show_warning
        try:
            try:
                app.cli(prog="sora-edu", description=description, args=args, config=(FlagCreatePairsOff,))
            finally:
                sys.stdout.flush()  # here, where a reader that has gone can still be told from a fault
        except BrokenPipeError:
            leave_quietly()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except Stopped as stop:
            sys.exit(128 + stop.signal if stop.signal else 0)
        except OtherFailed:  # the process that failed says why
            sys.exit(1)
        except Exception as error:
            line = explain(error)
            if line is None:
                raise
            print(f"error: {line}", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
