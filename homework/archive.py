"""What homeworks ask to be handed in: archives of NTU CVPDL 2025's HW3, HKU's three files, a report's name.

python3 -m homework.archive images FOLDER img_ID.zip            00001.png ... 10000.png, flat
python3 -m homework.archive code code_ID.zip                    src/, readme.md, requirements.txt
python3 -m homework.archive submission hw3_ID.zip FILE ...      the archives and the report, in the folder hw3_ID/
python3 -m homework.archive check img_ID.zip                    says what is wrong with an archive of images
python3 -m homework.archive hku FOLDER                          model.py, unet.py, train_mnist.py, alone enough
python3 -m homework.archive report ID                           docs/report.pdf as hw2_ID.pdf, NTU DLCV 2023's name

The same files give the same bytes. An archive of images is checked before it is written.
"""

import argparse
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from common.cli import UserError, command, some_path, wrote
from common.files import REPOSITORY, atomic_write
from common.images import sums_hold
from common.zips import check_unpacked_size
from homework.bundle import bundle

COUNT, SIZE = 10_000, (28, 28)
SOURCES = (
    "common/**/*",
    "p1_cond_ddpm/**/*",
    "p2_ddim/**/*",
    "p3_dann/**/*",
    "homework/__init__.py",
    "homework/mnist.py",
)
NAMES_SHOWN = 3
README_START = """# MNIST by DDPM

All commands run in `src`, after `python3 -m pip install -r ../requirements.txt`. This archive has no weights: train
first, then `W=runs/mnist_black/weights.pt`.
"""
GUIDE_SECTIONS = ("Train", "Images", "FID")  # of docs/mnist.md


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


def wrong_image(read: Callable[[], bytes]) -> str | None:
    """What is wrong with a picture whose bytes `read` gives, or None."""
    try:
        content = read()
        with Image.open(io.BytesIO(content)) as image:
            if (image.format, image.mode, image.size) != ("PNG", "RGB", SIZE):
                found = f"{image.format} {image.mode} {image.size[0]} x {image.size[1]}"
                return f"{found}, but a PNG in RGB of 28 x 28 is wanted"
            image.load()
        if not sums_hold(content):
            return "a damaged PNG; its checksums are wrong"
    except Exception as error:  # decoders of damaged or encrypted files raise a dozen kinds
        return f"not a readable image ({error})"
    return None


def check_regular(path: Path) -> None:
    """Raise UserError for a pipe or a device, whose content may never end, and where there is nothing."""
    if not path.is_file():
        raise UserError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")


def problems(path: Path) -> list[str]:
    """All that is wrong with an archive of images. Raises UserError where it is no archive."""
    check_regular(path)
    check_unpacked_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names, known = archive.namelist(), set(image_names())
            found = list(wrong_names(names))
            pictures = [name for name in names if name.rsplit("/")[-1] in known]
            bad = [
                (name, wrong_image(partial(archive.read, name)))
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
    """The sources under src/, a readme for those who unpack it, and the requirements."""
    for pattern in SOURCES:
        for source in sorted(path for path in REPOSITORY.glob(pattern) if path.suffix in (".py", ".txt")):
            yield f"src/{source.relative_to(REPOSITORY).as_posix()}", source.read_bytes()
    guide = (REPOSITORY / "docs" / "mnist.md").read_text(encoding="utf-8")
    sections = dict(section.split("\n", 1) for section in guide.split("\n## ")[1:])
    readme = README_START + "".join(f"\n## {name}\n{sections[name]}" for name in GUIDE_SECTIONS)
    yield "readme.md", readme.encode()
    yield "requirements.txt", (REPOSITORY / "requirements.txt").read_bytes()


def archive_submission(path: Path, files: Sequence[Path]) -> None:
    """Zip files in a folder of the zip's own name. Raises UserError where an archive of images among them is wrong."""
    if len({file.name for file in files}) < len(files):
        raise UserError("submission: two files of one name; all go into one folder")
    for file in files:
        check_regular(file)
        if file.name.startswith("img_"):
            check(file)
    write_archive(path, ((f"{path.stem}/{file.name}", file.read_bytes()) for file in files))


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_student(student: str) -> None:
    """Raise UserError where an ID can't be part of a file's name."""
    if not re.fullmatch(r"[A-Za-z0-9]+", student):
        raise UserError(f"{student}: give a student ID of letters and digits, as in r12345678")


def name_report(student: str) -> Path:
    """Copy the report to hw2_ID.pdf at the top of the repository."""
    check_student(student)
    path = REPOSITORY / f"hw2_{student}.pdf"
    with atomic_write(path) as temporary:
        temporary.write_bytes((REPOSITORY / "docs" / "report.pdf").read_bytes())
    return path


def command_line() -> argparse.ArgumentParser:
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
    hku = verbs.add_parser("hku", help="make HKU's three files")
    hku.add_argument("folder", type=some_path, help="where to write them")
    report = verbs.add_parser("report", help="copy the report to the name that the course asks for")
    report.add_argument("student", metavar="ID", help="your student ID")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    arguments = command_line().parse_args(argv)
    if arguments.verb == "images":
        archive_images(arguments.folder, arguments.archive)
    elif arguments.verb == "code":
        write_archive(arguments.archive, code_files())
    elif arguments.verb == "submission":
        archive_submission(arguments.archive, arguments.files)
    elif arguments.verb == "hku":
        for name, source in bundle().items():
            write_text(arguments.folder / name, source)
            wrote(arguments.folder / name)
        return 0
    elif arguments.verb == "report":
        print(name_report(arguments.student))
        return 0
    else:
        check(arguments.archive)
        print(f"{arguments.archive}: {COUNT} images, nothing wrong")
        return 0
    wrote(arguments.archive)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
