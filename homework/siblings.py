"""What can be checked of what is handed in for the MNIST homeworks: archives, files, pages, FID."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from common.cli import UserError
from common.fid import distance_of_moments, frechet_distance, moments, named_fid, read_moments, read_set, two_real_sets
from common.files import hidden
from common.inception import features, packaged_network
from common.zips import check_unpacked_size
from homework.archive import check_regular, image_names, problems, some, wrong_image
from homework.bundle import HKU
from homework.rules import PACKAGES, SHOWN, foreign_packages, page_count
from homework.table import UNKNOWN, Row


def unpacked(submission: Path, place: Path) -> Path:
    """A folder as it is, or what a zip has. Raises UserError for anything else."""
    if submission.is_dir():
        return submission
    check_regular(submission)
    check_unpacked_size(submission)
    try:
        with zipfile.ZipFile(submission) as archive:
            archive.extractall(place)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise UserError(f"{submission}: neither a folder nor a readable zip ({error})") from None
    return place


def rule(check: str, broken: list[str] | str, mend: str) -> Row:
    """A row that passes where nothing is broken."""
    what = broken if isinstance(broken, str) else ", ".join(broken)
    return Row(check, not broken, 0, what or "kept", "", mend if broken else "")


def pages(report: Path, least: int, most: int) -> Row:
    count = page_count(report.read_bytes()) if report.is_file() else 0
    required = f"{least} to {most} pages" if least > 1 else f"at most {most} pages"
    right, mend = least <= count <= most, "add a PDF" if not count else "shorten it" if count > most else "write more"
    return Row(f"report: {report.name}", right, 0, f"{count} pages", required, "" if right else mend)


def fid(images: Path, reference: Path | None, limit: float) -> Row:
    """FID with 2048 features of a folder of pictures to MNIST's own moments or pictures; unknown where it can't be.

    Of MNIST's pictures also that of two sets of as many.
    """
    check, required = "FID, 2048 features", f"< {limit:g}"
    if not reference:
        return Row(check, None, 0, UNKNOWN, required, "give DATA: mnist.npz of mu and sigma, or MNIST's pictures")
    try:
        network = packaged_network(2048)
    except UserError as error:
        return Row(check, None, 0, UNKNOWN, required, str(error))
    ours, given = features(read_set(str(images), None), None, network), read_moments(str(reference))
    dims, sizes, beside = ours.shape[1], [len(ours)], ""
    if given and len(given[0]) != dims:
        raise UserError(f"{reference}: of {len(given[0])} features, but the homework's FID has {dims}")
    if not given:
        real = features(read_set(str(reference), None), None, network)
        given, sizes = moments(real), [len(ours), len(real)]
        if pair := two_real_sets(real, len(ours)):
            count = len(pair[0])
            beside = f"; two real sets: {named_fid(frechet_distance(*pair), dims, count)}, N = {count}"
    distance = distance_of_moments(moments(ours), given)
    return Row(check, distance < limit, 0, f"{named_fid(distance, dims, *sizes)}, N = {len(ours)}{beside}", required)


def cvpdl2025(submission: Path, reference: Path | None, work: Path) -> Iterator[Row]:
    """NTU CVPDL 2025's HW3: hw3_ID.zip with a folder hw3_ID/ of report, code and images."""
    name = re.fullmatch(r"hw3_(\w+)\.zip", submission.name)
    yield rule("archive's name", "" if name else submission.name, "hw3_ID.zip")
    top = unpacked(submission, work / "submission")
    student, folder = name[1] if name else "ID", top / submission.stem
    names = (f"report_{student}.pdf", f"code_{student}.zip", f"img_{student}.zip")
    report, code, images = (folder / part for part in names)
    wanted = {f"{submission.stem}/{part}" for part in names}
    found = {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}
    broken = [f"no {missing}" for missing in sorted(wanted - found)]
    broken += [f"too much, {some(found - wanted)}"] if found - wanted else []
    yield rule("its content", broken, f"the folder {submission.stem}/ and in it report, code and images alone")
    yield pages(report, 3, 5)
    if code.is_file():
        parts = {path.name for path in unpacked(code, work / "code").iterdir()}
        lacking = [f"no {part}" for part in ("src", "readme.md", "requirements.txt") if part not in parts]
        yield rule(code.name, lacking, "python3 -m homework.archive code makes one")
    if images.is_file():
        broken = problems(images)
        yield rule(images.name, broken, "python3 -m homework.archive images makes one")
        if not broken:
            yield fid(unpacked(images, work / "images"), reference, 30)


def nycu2022(submission: Path, reference: Path | None, work: Path) -> Iterator[Row]:
    """NYCU 2022's HW3: numbered images in one folder, and a picture of the process that starts from noise."""
    top = unpacked(submission, work / "submission")
    first = [path for path in top.rglob("00001.png") if not any(map(hidden, path.relative_to(top).parts))]
    folders = {path.parent for path in first}
    yield rule("one folder of images", "" if len(folders) == 1 else f"{len(folders)} folders with a 00001.png", "one")
    figures = [path for path in top.rglob("*.png") if path.name not in set(image_names())]
    yield rule("picture of the process", "" if figures else "no other .png", "python3 -m p1_cond_ddpm.process draws it")
    yield Row("the process starts from noise", None)
    for folder in folders:
        files = {name: folder / name for name in image_names()}
        missing = [name for name, path in files.items() if not path.is_file()]
        broken = [f"missing files, {some(missing)}"] if missing else []
        for name in files.keys() - missing:
            if what := wrong_image(files[name].read_bytes):
                broken.append(f"{name}: {what}")
        yield rule("images", sorted(broken)[:SHOWN], "python3 -m p1_cond_ddpm.sample --count 10000 draws them")
        if not broken:
            yield fid(folder, reference, 40)


def hku2024(submission: Path, reference: Path | None, work: Path) -> Iterator[Row]:
    """HKU's A2 2024: three files that run by themselves, and a report of at most two pages."""
    top = unpacked(submission, work / "submission")
    missing = [name for name in HKU if not (top / name).is_file()]
    yield rule("files", [f"no {name}" for name in missing], "python3 -m homework.archive hku makes them")
    present = [Path(name) for name in HKU if name not in missing]
    yield rule("imports", foreign_packages(top, present), f"{', '.join(sorted(PACKAGES))} alone")
    reports = sorted(top.glob("*.pdf"))
    yield pages(reports[0] if reports else top / "report.pdf", 1, 2)
    yield Row("all digits 0 to 9 are shown", None)


HOMEWORKS = {"cvpdl2025": cvpdl2025, "nycu2022": nycu2022, "hku2024": hku2024}
