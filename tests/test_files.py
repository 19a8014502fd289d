"""A file is whole or not there, and one that could not be written is refused before the work."""

import errno
import os
import re
import tempfile
from pathlib import Path

import pytest

from sora_edu import files
from sora_edu.errors import InputError, MediaError
from sora_edu.files import LEFTOVER_SECONDS, check_target, new_draft, write_whole


def test_a_target_may_be_new_in_a_new_folder_or_exist_and_nothing_is_touched(tmp_path):
    check_target(tmp_path / "new" / "figures.json")
    (tmp_path / "old.json").write_text("old")
    check_target(tmp_path / "old.json")
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"] and (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_folder_is_no_target(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is a folder; give the name of a file in it, such as .*figures.json"):
        check_target(Path(name))
    with pytest.raises(MediaError, match="such as .*clip.gif"):
        check_target(Path(name), error=MediaError, example="clip.gif")


def test_a_target_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot be written \(.*file is a file\); give a path through folders"):
        check_target(tmp_path / "file" / "deep" / "figures.json")


@pytest.mark.parametrize(("number", "cause"), [(errno.EACCES, "Permission denied"), (errno.EROFS, "Read-only file")])
def test_a_folder_in_which_no_file_can_be_made_is_refused(tmp_path, monkeypatch, number, cause):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)  # root may write everywhere
    with pytest.raises(InputError, match=rf"cannot be written in .* \({cause}.*\); choose another folder"):
        check_target(tmp_path / "figures.json")


def test_content_in_parts_replaces_the_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    write_whole(path, b"ne", memoryview(b"w"))
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, error, call):
    def fail(*_):
        raise error

    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_killed_writes_left_goes_at_the_next_but_not_what_another_run_writes_now(tmp_path, monkeypatch):
    path = tmp_path / "clip.gif"
    left, fresh, other = (new_draft(tmp_path / name) for name in ("clip.gif", "clip.gif", "b.gif"))
    for draft in (left, fresh, other):
        draft.write_bytes(b"half")
    for draft in (left, other):
        os.utime(draft, (0, files.time.time() - LEFTOVER_SECONDS - 1))
    (tmp_path / ".clip.gif.notes.tmp").write_text("a user's own")
    write_whole(path, b"new")
    assert {entry.name for entry in tmp_path.iterdir()} == {"clip.gif", fresh.name, other.name, ".clip.gif.notes.tmp"}


def test_drafts_are_hidden_short_and_never_the_same(tmp_path):
    path = tmp_path / ("ü" * 120 + ".gif")
    one, two = new_draft(path), new_draft(path)
    assert one != two and re.fullmatch(r"\.ü{40}\.[0-9a-f]{32}\.tmp", one.name) and len(one.name.encode()) <= 255
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
