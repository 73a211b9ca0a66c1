"""The archives that NTU CVPDL 2025's HW3 asks for: generated images, code, and the submission around them.

python3 -m homework.archive images FOLDER img_ID.zip            00001.png ... 10000.png, flat
python3 -m homework.archive code code_ID.zip                    src/, readme.md, requirements.txt
python3 -m homework.archive submission hw3_ID.zip FILE ...      the archives and the report, flat
python3 -m homework.archive check img_ID.zip                    says what is wrong with an archive of images

The same files give the same bytes. An archive of images is checked before it is written.
"""

import argparse
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from common.cli import UserError, command, some_path, wrote
from common.files import REPOSITORY, atomic_write

COUNT, SIZE = 10_000, (28, 28)
SOURCES = ("common", "p1_cond_ddpm", "p2_ddim", "p3_dann")
NAMES_SHOWN = 3
README_START = """# MNIST by DDPM

All commands run in `src`, after `python3 -m pip install -r ../requirements.txt`. Neither weights nor figures are in
this archive: train first, then `W=runs/mnist/weights.pt`.
"""


def image_names() -> list[str]:
    """All names that an archive of images has, in order."""
    return [f"{number:05d}.png" for number in range(1, COUNT + 1)]


def some(names: Iterable[str]) -> str:
    """How many names, and the first of them."""
    names = sorted(names)
    return f"{len(names)}: " + ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")


def write_archive(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """A zip of (name, content), without dates, so that equal files give equal bytes."""
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=zipfile.ZIP_DEFLATED)


def wrong_names(names: Sequence[str]) -> Iterator[str]:
    """What is wrong with the names in an archive of images, one line each."""
    wanted, left = set(image_names()), set(names)
    rules = {
        "files that a Mac adds": lambda name: "__MACOSX" in name or name.endswith(".DS_Store"),
        "files in a folder, but the archive must be flat": lambda name: "/" in name,
        "files with other names than 00001.png to 10000.png": lambda name: name not in wanted,
    }
    for rule, breaks in rules.items():
        bad = {name for name in left if breaks(name)}
        left -= bad
        if bad:
            yield f"{rule}, {some(bad)}"
    if missing := wanted - left:
        yield f"missing files, {some(missing)}"
    if len(names) > len(set(names)):
        yield f"{len(names) - len(set(names))} names that occur twice"


def wrong_image(archive: zipfile.ZipFile, name: str) -> str | None:
    """What is wrong with a picture in an archive, or None."""
    try:
        with Image.open(io.BytesIO(archive.read(name))) as image:
            image.load()
            if (image.format, image.mode, image.size) != ("PNG", "RGB", SIZE):
                found = f"{image.format} {image.mode} {image.size[0]} x {image.size[1]}"
                return f"{found}, but a PNG in RGB of 28 x 28 is wanted"
    except Exception as error:  # decoders of damaged or encrypted files raise a dozen kinds
        return f"not a readable image ({error})"
    return None


def problems(path: Path) -> list[str]:
    """All that is wrong with an archive of images. Raises UserError where it is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names, known = archive.namelist(), set(image_names())
            found = list(wrong_names(names))
            pictures = [name for name in names if name.rsplit("/")[-1] in known]
            bad = [
                (name, wrong_image(archive, name))
                for name in tqdm(pictures, unit="image", desc="checking", mininterval=1.0)
            ]
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable zip ({error})") from None
    found += [f"{name}: {what}" for name, what in bad if what][:NAMES_SHOWN]
    wrong = sum(what is not None for _, what in bad)
    return found + ([f"... and {wrong - NAMES_SHOWN} more wrong images"] if wrong > NAMES_SHOWN else [])


def check(path: Path) -> None:
    """Raise UserError with all that is wrong with an archive of images, on one line."""
    if found := problems(path):
        raise UserError(f"{path}: " + "; ".join(found))


def archive_images(folder: Path, path: Path) -> None:
    """Zip a folder's 10,000 images; whatever else lies there stays out.

    Raises UserError where one is missing or wrong.
    """
    missing = [name for name in image_names() if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: missing files, {some(missing)}; python3 -m p1_cond_ddpm.sample writes them")
    with atomic_write(path) as temporary:
        write_archive(temporary, ((name, (folder / name).read_bytes()) for name in image_names()))
        if found := problems(temporary):
            raise UserError(f"{folder}: " + "; ".join(found))


def code_files() -> Iterator[tuple[str, bytes]]:
    """The sources of all packages under src/, a readme for those who unpack it, and the requirements."""
    for package in SOURCES:
        for source in sorted(path for path in (REPOSITORY / package).rglob("*") if path.suffix in (".py", ".txt")):
            yield f"src/{source.relative_to(REPOSITORY).as_posix()}", source.read_bytes()
    guide = (REPOSITORY / "docs" / "mnist.md").read_text(encoding="utf-8")
    yield "readme.md", (README_START + guide.split("\n", 1)[1]).encode()
    yield "requirements.txt", (REPOSITORY / "requirements.txt").read_bytes()


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, help="what to do")
    images = verbs.add_parser("images", help="zip 10,000 images")
    images.add_argument("folder", type=some_path, help="of 00001.png to 10000.png")
    code = verbs.add_parser("code", help="zip the code")
    submission = verbs.add_parser("submission", help="zip the archives and the report")
    checking = verbs.add_parser("check", help="say what is wrong with an archive of images")
    for verb in (images, code, submission):
        verb.add_argument("archive", type=some_path, help="the zip to write")
    checking.add_argument("archive", type=some_path, help="the zip to check")
    submission.add_argument("files", type=some_path, nargs="+", help="what goes into it")
    arguments = parser.parse_args(argv)
    if arguments.verb == "images":
        archive_images(arguments.folder, arguments.archive)
    elif arguments.verb == "code":
        write_archive(arguments.archive, code_files())
    elif arguments.verb == "submission":
        if len({file.name for file in arguments.files}) < len(arguments.files):
            raise UserError("submission: two files of one name; the archive is flat")
        for file in arguments.files:
            if file.name.startswith("img_"):
                check(file)
        write_archive(arguments.archive, ((file.name, file.read_bytes()) for file in arguments.files))
    else:
        check(arguments.archive)
        print(f"{arguments.archive}: {COUNT} images, nothing wrong")
        return 0
    wrote(arguments.archive)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
