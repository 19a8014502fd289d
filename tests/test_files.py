"""A file to write later is refused before the work, not after it."""

import pytest

from sora_edu.errors import InputError
from sora_edu.files import check_target


def test_a_target_in_a_new_folder_is_fine_and_nothing_is_left_behind(tmp_path):
    path = tmp_path / "new" / "results.json"
    assert check_target(path) == path
    assert list(path.parent.iterdir()) == []


def test_an_existing_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    assert check_target(str(path)).read_text() == "old"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_folder_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"^--json \.+ is a folder; give the name of a file in it, such as .*out.json$"
    ):
        check_target(name, option="--json")


@pytest.mark.parametrize(
    ("name", "why"),
    [("a file/results.json", "Not a directory|File exists"), ("x" * 300, "File name too long")],
)
def test_what_cannot_be_written_is_refused_with_its_cause(name, why, tmp_path):
    (tmp_path / "a file").write_text("in the way")
    with pytest.raises(InputError, match=f"path .* cannot be written: .*({why})"):
        check_target(tmp_path / name)


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    def refuse(**options):
        raise PermissionError(13, "Permission denied", str(options["dir"]))

    monkeypatch.setattr("sora_edu.files.tempfile.TemporaryFile", refuse)
    with pytest.raises(InputError, match="cannot be written: Permission denied; choose another folder or name"):
        check_target(tmp_path / "results.json")
