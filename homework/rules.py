"""The homework's rules that can be read off a submission's files: Python by its syntax tree, shell scripts by words.

The folder tests/ is left out: tests name what they forbid.
"""

import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from common.files import hidden
from common.images import SUFFIXES
from homework.sources import forbidden_calls, imports, parsed, shell_words, strings

SCRIPTS = ("hw2_1.sh", "hw2_2.sh", "hw2_3.sh")
DOWNLOAD = "hw2_download.sh"
PACKAGES = set(
    "numpy torch torchvision sklearn timm transformers matplotlib PIL imageio scipy skimage".split()
    + "pandas tqdm gdown yaml".split()
)
LARGEST = 50_000_000  # bytes
SHOWN = 3  # of what breaks a rule
MOST_PICTURES = 100  # in one folder
COMMAND = re.compile(r"(?:^|[;&(`\n]|\| )\s*(?P<word>sudo|CUDA_VISIBLE_DEVICES)\b")  # first, or behind another command
FOLDERS = (
    "home root Users mnt media opt var local project projects scratch storage share export Volumes".split()
    + r"tmp data\d* ssd\w* hdd\w* disk\w* nfs\w* work\d* workspace content kaggle".split()
)
ABSOLUTE = re.compile(rf"[A-Za-z]:[\\/]|(?:~|\$HOME|\${{HOME}})/|/(?:{'|'.join(FOLDERS)})/")


class Finding(NamedTuple):
    """A rule, what breaks it (nothing where it is kept), and how to mend that."""

    rule: str
    broken: list[str]
    mend: str


class Place(NamedTuple):
    """A line of a file, by its name in the submission."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file.as_posix()}:{self.line}"


def files_of(root: Path) -> list[Path]:
    """The names of all files but hidden ones and tests, relative to the submission."""
    names = (path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file())
    return [name for name in names if name.parts[0] != "tests" and not any(map(hidden, name.parts))]


def commands_and_paths(root: Path) -> tuple[list[str], list[str]]:
    """Where forbidden calls and commands stand, and where absolute paths do."""
    forbidden, absolute = [], []
    for name in files_of(root):
        if name.suffix == ".py":
            tree = parsed(root / name)
            if isinstance(tree, str):
                forbidden.append(f"{name.as_posix()} is no Python ({tree})")
                continue
            words = list(strings(tree))
            forbidden += [f"{Place(name, line)} {call}" for line, call in forbidden_calls(tree)]
        elif name.suffix == ".sh":
            words = [(line, part) for line, word in shell_words(root / name) for part in (word, *word.split("=")[1:])]
        else:
            continue
        forbidden += [f"{Place(name, line)} {found['word']}" for line, word in words if (found := COMMAND.search(word))]
        absolute += [f"{Place(name, line)} {word}" for line, word in words if ABSOLUTE.match(word)]
    return forbidden, absolute


def entry_points(root: Path) -> Iterator[Path]:
    """The Python files whose names, or names as modules, stand in the graded scripts, or in scripts that these name."""
    files = [name for name in files_of(root) if name.suffix in (".py", ".sh")]
    queue, seen = [name for name in files if name.as_posix() in (DOWNLOAD, *SCRIPTS)], set[Path]()
    while queue:
        script = queue.pop()
        if script in seen:
            continue
        seen.add(script)
        words = [word for _, word in shell_words(root / script)]
        for before, word in zip(["", *words], words):
            path = re.sub(r"^.*[$})]\w*/|^\./", "", word)  # behind the last variable
            if not path.endswith((".py", ".sh")) and (before == "-m" or "." in path):
                path = path.replace(".", "/") + ".py"
            named = [name for name in files if f"/{name.as_posix()}".endswith(f"/{path}")]
            queue += [name for name in named if name.suffix == ".sh"]
            yield from (name for name in named if name.suffix == ".py")


def foreign_packages(root: Path, starts: Iterable[Path]) -> list[str]:
    """Where some Python files, or what they import of the submission, import a package outside the course's list."""
    own = {part for name in files_of(root) if name.suffix == ".py" for part in (*name.parent.parts, name.stem)}
    allowed = PACKAGES | own | set(sys.stdlib_module_names) | {""}
    queue, seen, found = [*starts], set[Path](), dict[str, str]()
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        for line, dotted, files in imports(root, name):
            package = dotted.split(".")[0]
            queue += files
            if package not in allowed:
                found.setdefault(package, f"{Place(name, line)} {package}")
    return sorted(found.values())


def page_count(pdf: bytes) -> int:
    """Pages of a PDF, whose objects may be compressed; 0 where it is none."""
    if not pdf.startswith(b"%PDF"):
        return 0
    content = [pdf]
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        try:
            content.append(zlib.decompressobj().decompress(stream))
        except zlib.error:  # not compressed, or otherwise
            continue
    return sum(len(re.findall(rb"/Type\s*/Page\b", part)) for part in content)


def wrong_scripts(root: Path) -> Iterator[str]:
    for name in (*SCRIPTS, *([DOWNLOAD] if (root / DOWNLOAD).exists() else [])):
        if not (root / name).is_file():
            yield f"no {name}"
        elif not os.access(root / name, os.X_OK):
            yield f"{name} is not executable"
        elif b"\r\n" in (root / name).read_bytes():
            yield f"{name} has lines that end in CR LF"


def data_sets(root: Path) -> Iterator[str]:
    """Folders that hold the data set, or that many pictures."""
    pictures: dict[Path, int] = {}
    for name in files_of(root):
        if "hw2_data" in name.parts:
            pictures[Path(*name.parts[: name.parts.index("hw2_data") + 1])] = MOST_PICTURES + 1
        elif name.suffix.lower() in SUFFIXES:
            pictures[name.parent] = pictures.get(name.parent, 0) + 1
    return (f"{folder.as_posix()}/" for folder, count in pictures.items() if count > MOST_PICTURES)


def static_rules(root: Path) -> Iterator[Finding]:
    """All rules in the order of the homework's page."""
    large = [
        f"{path.relative_to(root).as_posix()} {path.stat().st_size / 1e6:.1f} MB"
        for path in sorted(root.rglob("*"))
        if ".git" not in path.relative_to(root).parts and path.is_file() and path.stat().st_size > LARGEST
    ]
    forbidden, absolute = commands_and_paths(root)
    reports = [name for name in files_of(root) if name.suffix == ".pdf" and page_count((root / name).read_bytes())]
    yield Finding("scripts are there and executable", [*wrong_scripts(root)], "add them at the top; chmod +x; LF alone")
    yield Finding("no file over 50 MB", large, f"let {DOWNLOAD} fetch it")
    yield Finding("no data set", [*data_sets(root)], "take it out of the repository")
    yield Finding("no forbidden call or command", forbidden, "take it out")
    yield Finding("no absolute path", absolute, "use the scripts' arguments, or paths relative to the file")
    foreign = foreign_packages(root, entry_points(root))
    yield Finding("the course's packages alone", foreign, "do without, in what the graded scripts run")
    yield Finding("report", [] if reports else ["no PDF"], "add hw2_ID.pdf")
