"""The command line: what is printed and written, and one line for every mistake."""

import inspect
import json
import os
import signal
import subprocess
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sora_edu
from sora_edu import cli
from sora_edu.config import PRESETS, VAEConfig
from sora_edu.errors import InputError, MediaError, OtherFailed, Stopped, UnknownWordWarning
from sora_edu.media import fitting_size, load_clip, save_clip
from sora_edu.model.vae import VideoVAE
from sora_edu.train.options import DistillOptions, TrainOptions


@pytest.fixture
def run(capsys):
    """Run a command in this process; return its exit status, stdout and stderr."""

    def run(*args: str) -> tuple[int, str, str]:
        try:
            cli.main(list(args))
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        return status, *capsys.readouterr()

    return run


class FakePipeline:
    """Stands in for the trained pipeline: grey clips, a VAE that halves the contrast."""

    calls: list
    preset = replace(PRESETS["tiny"], vae=VAEConfig(widths=(8, 8, 8)), other_sizes=((33, 24, 40),))

    def __init__(self):
        self.vae = VideoVAE(self.preset.vae)

    def __call__(
        self, prompts, *, frames=None, size=None, steps=25, cfg_scale=3.0, negative=None, seed=0, callback=None
    ):
        FakePipeline.calls.append((prompts, frames, size, steps, cfg_scale, seed))
        if "zorp" in prompts:
            warnings.warn("unknown word 'zorp';\nnearest: 'drop'", UnknownWordWarning, stacklevel=2)
        if "too big" in prompts:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        if "stop" in prompts:
            raise KeyboardInterrupt
        if "bug" in prompts:
            raise RuntimeError("a fault of ours")
        return torch.zeros(len(prompts), 3, frames or 17, *(size or (32, 32)))

    def reconstruct(self, video):
        return video / 2


@pytest.fixture
def pipeline(monkeypatch):
    FakePipeline.calls = []

    def load(name_or_path="tiny", device="cpu"):
        if name_or_path != "tiny":
            raise InputError(f"no checkpoint {name_or_path!r}; there is 'tiny'")
        return FakePipeline()

    module = types.ModuleType("sora_edu.pipeline")
    module.Pipeline = types.SimpleNamespace(load=load)
    monkeypatch.setitem(sys.modules, "sora_edu.pipeline", module)
    return FakePipeline


# Help and version


@pytest.mark.parametrize("command", ["sample", "train", "plan", "evaluate", "reconstruct", "doctor"])
def test_help_shows_an_example(run, command):
    status, out, _ = run(command, "--help")
    assert status == 0 and f"Example: sora-edu {command}" in out


def test_the_example_in_each_help_can_be_parsed():
    for command in (cli.sample, cli.train, cli.distill, cli.plan, cli.evaluate, cli.reconstruct, cli.doctor):
        example = inspect.getdoc(command).split("Example: ")[1].splitlines()[0]
        options = {word[2:].replace("-", "_") for word in example.split() if word.startswith("--")}
        known = {cli.train: TrainOptions, cli.distill: DistillOptions}.get(command, command)
        assert options <= set(inspect.signature(known).parameters)


def test_version(run):
    assert run("--version") == (0, f"sora-edu {sora_edu.__version__}\n", "")


def test_help_and_version_load_no_torch():
    code = "import sys\nfrom sora_edu.cli import main\nmain(['--version'])\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_mistyped_option_is_named_with_the_nearest(run):
    status, _, err = run("sample", "a red circle falls", "--out", "x.gif", "--sed", "1")
    assert status == 2 and "--sed" in err and "--seed" in err


def test_an_unknown_split_is_answered_with_the_known_ones(run):
    status, _, err = run("evaluate", "--split", "train")
    assert status == 2 and "heldout" in err


# sample


@pytest.mark.parametrize("name", ["clip.gif", "clip.png", "clip.webp", "clip.mp4", "clip.strip.png", "CLIP.GIF"])
def test_sample_writes_the_clip_and_prints_its_path(run, pipeline, tmp_path, name):
    out = tmp_path / "new folder" / name
    assert run("sample", "a red circle falls", "--out", str(out)) == (0, f"{out}\n", "")
    frames = load_clip(out).video.shape[2]
    assert frames == (1 if "strip" in name else 17)


def test_sample_passes_its_options_on(run, pipeline, tmp_path):
    options = "--frames 5 --size 16x48 --steps 3 --cfg-scale 1.5 --seed 7".split()
    assert run("sample", "a", "--out", str(tmp_path / "a.gif"), *options)[0] == 0
    assert pipeline.calls == [(["a"], 5, (16, 48), 3, 1.5, 7)]


def test_several_prompts_write_numbered_files(run, pipeline, tmp_path):
    status, out, _ = run("sample", "../../a", "<b>", "--out", str(tmp_path / "clip.v2.strip.png"))
    names = ["clip.v2-1.strip.png", "clip.v2-2.strip.png"]
    assert status == 0 and out.split() == [str(tmp_path / name) for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_numbers_have_equal_width_so_that_names_sort():
    names = [path.name for path in cli.clip_paths(Path("clip.gif"), 10)]
    assert names[0] == "clip-01.gif" and names[-1] == "clip-10.gif" and names == sorted(names)


def test_a_prompt_may_look_like_an_option(run, pipeline, tmp_path):
    assert run("sample", "--out", str(tmp_path / "a.gif"), "--", "--seed")[0] == 0
    assert pipeline.calls[0][0] == ["--seed"]


@pytest.mark.parametrize(
    ("prompts", "note"),
    [
        (["red", "circle", "falls"], 'all words in double quotes: "red circle falls"'),
        (["a red circle falls", "blue", "star"], "3 prompts make 3 clips; for one clip put all words in double quotes"),
        (['"red', 'circle"'], "put all words in double quotes\n"),
        (["a red circle falls", "a blue star"], ""),
        (["circle", "a blue star", "ring"], ""),
        (["circle"], ""),
    ],
)
def test_single_words_in_a_row_are_asked_for_quotes_and_still_drawn(run, pipeline, tmp_path, prompts, note):
    status, out, err = run("sample", *prompts, "--out", str(tmp_path / "a.gif"))
    assert status == 0 and out.count("\n") == len(prompts) and pipeline.calls[0][0] == prompts
    assert note in err if note else err == ""


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (["--frames", "33"], "33x32x32"),
        (["--size", "64x64"], "17x64x64"),
        (["--frames", "9", "--size", "32x48"], "9x32x48"),
        (["--frames", "1", "--size", "16x16"], "1x16x16"),
        (["--frames", "17", "--size", "32x32"], None),
        (["--frames", "33", "--size", "24x40"], None),
        (["--frames", "1"], None),
        ([], None),
    ],
)
def test_a_size_that_was_not_trained_is_noted(run, pipeline, tmp_path, options, asked):
    status, _, err = run("sample", "a red circle falls", "--out", str(tmp_path / "a.gif"), *options)
    trained = "note: this checkpoint was trained at 17x32x32, 33x24x40, frames x height x width"
    assert status == 0 and err == (f"{trained}; clips of {asked} may be unreadable\n" if asked else "")


def test_a_path_is_printed_as_it_is_but_inert(run, pipeline, tmp_path):
    out = tmp_path / "two  spaces \u202egif\n\x1b[31m.gif"
    status, printed, _ = run("sample", "a red circle falls", "--out", str(out))
    assert status == 0 and out.exists()
    assert printed == f"{tmp_path}/two  spaces \\u202egif\\n\\x1b[31m.gif\n"


def test_a_reader_that_has_enough_ends_the_command_quietly():
    command = [sys.executable, "-m", "sora_edu.cli", "sample", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # before the first word
        assert (process.stderr.read(), process.wait()) == (b"", 141)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--out", "a.gif"], "no prompt given"),
        (["a", "--out", ""], "--out"),
        (["a", "--out", "a.gif", "--size", "99999999x1"], "HEIGHTxWIDTH"),
        (["a", "--out", "a.gif", "--size", "32"], "HEIGHTxWIDTH"),
        (["a", "--out", "a.gif", "--size", "-8x8"], "HEIGHTxWIDTH"),
        (["a", "--out", "a.xyz"], "unknown ending '.xyz', expected one of .gif"),
        (["a", "--out", ".gif"], "unknown ending"),
        (["a", "--out", "folder.gif"], "is a folder"),
        (["a", "--out", "file/a.gif"], "file"),
        (["a", "--out", "a.gif", "--checkpoint", "big"], "no checkpoint 'big'; there is 'tiny'"),
        (["too big", "--out", "a.gif"], "out of memory; take a smaller --size"),
    ],
)
def test_each_mistake_is_one_line_and_leaves_nothing_behind(run, pipeline, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "file").touch()
    status, out, err = run("sample", *args)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.gif"]


def test_an_unknown_word_is_a_warning_on_one_line(run, pipeline, tmp_path):
    status, _, err = run("sample", "zorp", "--out", str(tmp_path / "a.gif"))
    assert (status, err) == (0, "warning: unknown word 'zorp'; nearest: 'drop'\n")


def test_a_fault_of_ours_keeps_its_traceback(run, pipeline, tmp_path):
    with pytest.raises(RuntimeError, match="a fault of ours"):
        run("sample", "bug", "--out", str(tmp_path / "a.gif"))


def test_ctrl_c_exits_130(run, pipeline, tmp_path):
    assert run("sample", "stop", "--out", str(tmp_path / "a.gif")) == (130, "", "interrupted\n")


def test_messages_are_inert_on_a_terminal():
    assert cli.one_line("a\n b\x1b[31m\x00\u202e\udc80é") == r"a b\x1b[31m\x00\u202e\udc80é"


# train and evaluate


def fake_module(monkeypatch, name: str, **functions):
    module = types.ModuleType(name)
    module.__dict__.update(functions)
    monkeypatch.setitem(sys.modules, name, module)


def test_train_passes_its_options_on(run, monkeypatch):
    calls = []

    def train(options):
        calls.append(options)
        return Path("runs/a/model.safetensors")

    fake_module(monkeypatch, "sora_edu.train.recipe", train=train)
    status, out, _ = run("train", "--out", "runs/a", "--resume", "--vae-steps", "3")
    assert (status, out) == (0, f"{Path('runs/a/model.safetensors')}\n")
    assert calls == [TrainOptions(out=Path("runs/a"), resume=True, vae_steps=3)] and type(calls[0]) is TrainOptions


def test_distill_passes_its_options_on(run, monkeypatch):
    calls = []
    fake_module(
        monkeypatch, "sora_edu.train.distillation", distill=lambda options: calls.append(options) or Path("written")
    )
    status, out, _ = run("distill", "--teacher", "tiny", "--walks", "7", "--compile", "False")
    assert (status, out) == (0, "written\n") and calls == [DistillOptions(walks=7, compile=False)]


def test_what_a_training_prints_cannot_write_to_the_terminal(run, monkeypatch):
    fake_module(monkeypatch, "sora_edu.train.recipe", train=lambda options: options.out / "model.safetensors")
    fake_module(monkeypatch, "sora_edu.train.distillation", distill=lambda options: options.out / "model.safetensors")
    for command in ("train", "distill"):
        status, out, _ = run(command, "--out", "a\n\x1b[31m\u202e")
        assert (status, out) == (0, str(Path("a\\n\\x1b[31m\\u202e") / "model.safetensors") + "\n")


def stopped(signal):
    def train(options):
        raise Stopped(signal)

    return train


def test_training_whose_time_is_up_says_how_to_go_on(run, monkeypatch):
    fake_module(monkeypatch, "sora_edu.train.recipe", train=stopped(None))
    status, out, err = run("train", "--out", "runs/a", "--minutes", "9")
    assert (status, out) == (0, "") and err.startswith("time is up") and "--resume" in err
    status, _, err = run("train", "--out", "runs/a", "--minutes", "0")
    assert status == 2 and "--minutes 0.0 must be above 0" in err


def test_a_training_that_sigterm_stopped_exits_143_and_one_that_follows_another_exits_1(run, monkeypatch):
    fake_module(monkeypatch, "sora_edu.train.recipe", train=stopped(signal.SIGTERM))
    assert run("train", "--out", "runs/a") == (143, "", "")

    def followed(options):
        raise OtherFailed("process 1 ends")

    fake_module(monkeypatch, "sora_edu.train.recipe", train=followed)
    assert run("train", "--out", "runs/a") == (1, "", "")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "--out", ""], "--out names no folder; give the run one of its own, such as runs/mine"),
        (["distill", "--out", ""], "--out names no folder; give the run one of its own, such as runs/mine"),
        (["distill", "--steps", "0"], "--steps 0 must be at least 1"),
        (["distill", "--walks", "0"], "walks=0 leaves nothing to learn from; use 1 or more, 12000 for a good student"),
        (["train", "--out", "a", "--device", "meta"], "--device meta holds no numbers; use cpu, or leave it out"),
        (["distill", "--device", "meta"], "--device meta holds no numbers; use cpu, or leave it out"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_begins(run, command, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*command) == (2, "", f"error: {message}\n") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--vae-steps", "--dit-steps", "--clips", "--batch"])
def test_train_refuses_lengths_below_one(run, option):
    assert run("train", "--out", "runs/a", option, "0") == (2, "", f"error: {option} 0 must be at least 1\n")


@pytest.mark.parametrize("command", [["sample", "a", "--out", "a.gif"], ["train", "--out", "runs/a"], ["evaluate"]])
def test_a_seed_out_of_range_is_refused(run, command):
    status, _, err = run(*command, "--seed", "-1")
    assert status == 2 and err == "error: --seed -1 must be a whole number from 0 to 4294967295\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", str(2**63)], "steps=9223372036854775808 is not a whole number in 1..1000"),
        (["--steps", "0"], "steps=0 is not a whole number"),
        (["--size", "0x0"], "a clip of 17x0x0 has 0 pixels"),
        (["--size", "99999x99999"], "use 1 to 4,194,304"),
        (["--frames", str(10**9)], "use 1 to 4,194,304"),
        (["--frames", "-3"], "use 1 to 4,194,304"),
        (["--cfg-scale", "nan"], "cfg_scale=nan must be a number from 0 to 100"),
        (["--cfg-scale", "1e9"], "cfg_scale=1000000000.0 must be"),
        (["--seed", str(2**32)], "--seed 4294967296 must be a whole number"),
    ],
)
def test_absurd_numbers_end_in_one_line(run, tmp_path, options, words):
    status, out, err = run("sample", "a red circle falls", "--out", str(tmp_path / "a.gif"), *options)
    errors = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert (status, out, len(errors)) == (2, "", 1) and words in errors[0] and not list(tmp_path.iterdir())


def test_commands_have_the_defaults_of_the_functions_that_they_call():
    from sora_edu import evaluate, pipeline

    pairs = [
        (cli.sample, pipeline.Pipeline.__call__),
        (cli.evaluate, evaluate.evaluate_checkpoint),
    ]
    for command, function in pairs:
        own, called = inspect.signature(command).parameters, inspect.signature(function).parameters
        for name in (own.keys() & called.keys()) - {"prompts", "size", "out", "split"}:
            assert own[name].default == called[name].default, f"{command.__name__} {name}"


SHARE = {"value": 0.5, "low": 0.2154, "high": 0.7846}
SPEED = {"value": 0.012, "low": 0.01, "high": 0.014}
RESULTS = {
    "n": 8,
    "all": SHARE,
    "size": {"value": None, "low": None, "high": None, "n": 0},
    "velocity_error": SPEED | {"vae_floor": SPEED},
    "seconds_per_clip": 0.123456,
}


def test_evaluate_prints_the_figures_and_writes_them(run, monkeypatch, tmp_path):
    calls = []

    def evaluate_checkpoint(name, **options):
        calls.append((name, options))
        return RESULTS

    fake_module(monkeypatch, "sora_edu.evaluate", evaluate_checkpoint=evaluate_checkpoint)
    file = tmp_path / "new" / "figures.json"
    status, out, err = run("evaluate", "--split", "heldout", "--n", "8", "--json", str(file))
    assert (status, err) == (0, "")
    for line in (
        "all 50 % (95 % interval 21.54 to 78.46)",
        "size nothing to measure",
        "velocity_error 0.012 units a tick (95 % interval 0.01 to 0.014)",
        "velocity_error vae_floor 0.012 units a tick (95 % interval 0.01 to 0.014)",
        "seconds_per_clip 0.123",
    ):
        assert line in [" ".join(printed.split()) for printed in out.splitlines()]
    assert json.loads(file.read_text()) == RESULTS
    assert [path.name for path in file.parent.iterdir()] == ["figures.json"]
    filmed = dict(frames=None, size=None, given="nothing")
    assert calls == [("tiny", dict(split="heldout", n=8, steps=None, cfg_scale=None, seed=0, **filmed))]


@pytest.mark.parametrize("command", [["evaluate"], ["bench", "--smoke"]])
def test_figures_that_could_not_be_written_are_refused_before_the_work(run, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*command, "--json", "")
    assert (status, out) == (2, "")
    assert err == "error: --json .: is a folder; give the name of a file in it, such as figures.json\n"


# reconstruct


def picture(path: Path, frames: int, height: int, width: int) -> Path:
    values = torch.linspace(-1, 1, 3 * frames * height * width)
    save_clip(values.reshape(3, frames, height, width), path)
    return path


@pytest.mark.parametrize(
    ("name", "shape", "fitted"),
    [
        ("photo.jpg", (1, 40, 64), (1, 40, 64)),
        ("odd.png", (1, 33, 47), (1, 32, 40)),
        ("dot.png", (1, 1, 1), (1, 8, 8)),
        ("large.png", (1, 300, 600), (1, 128, 256)),
        ("clip.gif", (7, 24, 16), (5, 24, 16)),
        ("clip.mp4", (3, 16, 24), (1, 16, 24)),
    ],
)
def test_reconstruct_takes_any_size_and_length(run, pipeline, tmp_path, name, shape, fitted):
    out = tmp_path / "out.webp"
    status, printed, err = run("reconstruct", str(picture(tmp_path / name, *shape)), "--out", str(out))
    assert status == 0, err
    frames, height, width = fitted
    assert load_clip(out).video.shape == (1, 3, frames, height, 2 * width + 2)
    cells = f"{1 + (frames - 1) // 4} x {height // 4} x {width // 4} cells of 16 values"
    assert cells in printed and "PSNR" in printed and printed.endswith(f"{out}\n")
    assert ("shrunk while reading" in printed) == (name == "large.png")
    assert ("resized" in printed or "cropped" in printed or "kept the first" in printed) == (shape != fitted)


def test_psnr_is_that_of_the_pixels(run, pipeline, tmp_path):
    save_clip(torch.ones(3, 1, 8, 8), tmp_path / "white.png")  # the fake VAE halves it: an error of 1/2 everywhere
    _, out, _ = run("reconstruct", str(tmp_path / "white.png"), "--out", str(tmp_path / "out.png"))
    assert "PSNR     12.04 dB" in out


def test_reconstruct_refuses_what_is_no_media(run, pipeline, tmp_path):
    (tmp_path / "text.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    status, _, err = run("reconstruct", str(tmp_path / "text.mp4"), "--out", str(tmp_path / "out.png"))
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("spelling", ["same", "dots", "symlink", "hard link"])
def test_reconstruct_refuses_to_write_over_what_it_reads(run, monkeypatch, tmp_path, spelling):
    monkeypatch.setattr("sora_edu.media.reading.read_pictures", lambda *args: pytest.fail("worked before it refused"))
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"precious")
    out = {"same": photo, "dots": tmp_path / ".." / tmp_path.name / "photo.png"}.get(spelling, tmp_path / "b.png")
    if spelling == "symlink":
        out.symlink_to(photo)
    if spelling == "hard link":
        os.link(photo, out)
    status, _, err = run("reconstruct", str(photo), "--out", str(out))
    assert status == 2 and "is the file that is read, and would be lost" in err
    assert photo.read_bytes() == b"precious"


def test_another_file_is_not_the_same(tmp_path):
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "b.png").write_bytes(b"1")
    assert not cli.same_file(tmp_path / "a.png", tmp_path / "b.png")
    assert not cli.same_file(tmp_path / "a.png", tmp_path / "none.png")
    assert not cli.same_file(tmp_path / "a.png", Path("a\0.png"))


@pytest.mark.parametrize(("name", "fps"), [("out.mp4", 120), ("out.gif", 50)])
def test_reconstruct_keeps_the_rate_of_a_fast_video(run, pipeline, tmp_path, name, fps):
    save_clip(torch.zeros(3, 9, 16, 16), tmp_path / "fast.mp4", fps=120)
    status, _, err = run("reconstruct", str(tmp_path / "fast.mp4"), "--out", str(tmp_path / name))
    assert status == 0, err
    assert load_clip(tmp_path / name).fps == pytest.approx(fps)
    assert ("slowed from 120 to 50" in err) == (fps == 50)


def test_a_place_where_no_file_can_be_made_is_refused_before_the_work(run, monkeypatch, tmp_path):
    photo = picture(tmp_path / "photo.png", 1, 8, 8)
    monkeypatch.setattr("sora_edu.media.reading.read_pictures", lambda *args: pytest.fail("worked before it refused"))
    status, _, err = run("reconstruct", str(photo), "--out", str(photo / "deeper" / "out.png"))
    assert status == 2 and "is a file); give a path through folders" in err
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open("/none/x", "xb"))  # root may write everywhere
    status, _, err = run("reconstruct", str(photo), "--out", str(tmp_path / "out.png"))
    assert status == 2 and "cannot be written in" in err


def test_a_path_cannot_write_to_the_terminal(run, pipeline, tmp_path):
    for name in ("none\n\x1b[31m.png", "a\u202egnp.exe"):
        status, _, err = run("reconstruct", str(tmp_path / name), "--out", str(tmp_path / "out.png"))
        assert status == 2 and err.endswith("\n") and err[:-1].isprintable()


def test_a_printed_path_and_note_cannot_write_to_the_terminal(run, pipeline, tmp_path):
    photo = picture(tmp_path / "a\u202eb\nc.png", 1, 8, 8)
    status, out, _ = run("reconstruct", str(photo), "--out", str(tmp_path / "o\u202eut\n.gif"))
    assert status == 0 and all(line.isprintable() for line in out.splitlines()) and "error" not in out
    assert out.splitlines()[-1].startswith(str(tmp_path)) and len(out.splitlines()) == 5


def test_max_side_must_hold_one_patch():
    with pytest.raises(InputError, match="at least 8"):
        fitting_size((10, 10), unit=8, max_side=7)


def test_out_must_have_a_known_ending():
    with pytest.raises(MediaError, match="expected one of"):
        cli.clip_paths(Path("clip"), 1)


# doctor


def test_doctor_exits_1_where_there_is_a_problem(run, monkeypatch):
    from sora_edu import doctor

    for state, status in (("ok", 0), ("note", 0), ("problem", 1)):
        monkeypatch.setattr(doctor, "examine", lambda state=state: [doctor.Finding("thing", "detail", state, "mend")])
        assert run("doctor")[0] == status
