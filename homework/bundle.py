"""Modules of this repository put together into few files that need nothing else of it, as HKU's homework asks for."""

import ast
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from common.files import REPOSITORY

HKU = {  # every file's last module, behind all that this imports and no earlier file has
    "model.py": "p1_cond_ddpm.guidance",
    "unet.py": "p1_cond_ddpm.unet",
    "train_mnist.py": "p1_cond_ddpm.train",
}
STARTS = {
    "model.py": "Noise schedules, samplers, guidance.",
    "unet.py": "The network.",
    "train_mnist.py": """Train the network on MNIST, with a preview of all digits whenever the state is saved.

python3 train_mnist.py --data mnist.npz --run-dir runs/mnist

mnist.npz has images (N, 28, 28) uint8 and labels (N,). --help has all options.
""",
}


def source_of(module: str) -> Path:
    return REPOSITORY / (module.replace(".", "/") + ".py")


def needed(module: str, known: Container[str]) -> list[str]:
    """A module behind those of the repository that it imports, without those that are known."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and source_of(node.module).is_file():
            found += [name for name in needed(node.module, known) if name not in found]
    return [name for name in [*found, module] if name not in known]


def bundle() -> dict[str, str]:
    """File name -> source of HKU's files."""
    place: dict[str, str] = {}
    for name, module in HKU.items():
        place |= dict.fromkeys(needed(module, place), Path(name).stem)
    return {
        name: bundled([module for module in place if place[module] == Path(name).stem], STARTS[name], place)
        for name in HKU
    }


def bundled(modules: Sequence[str], start: str, place: Mapping[str, str]) -> str:
    """The source of one file: all imports, then what is left of its modules. `place` has every module's new home."""
    froms, plain, parts = defaultdict[str, set[str]](set), set[str](), []
    for module in modules:
        path = source_of(module)
        source = path.read_text(encoding="utf-8")
        tree, lines = ast.parse(source), source.splitlines()
        for node in dropped(tree, place, last=module == modules[-1]):
            if isinstance(node, ast.ImportFrom):
                home = place.get(node.module or "", node.module or "")
                if home != place[module]:
                    froms[home] |= {ast.unparse(name) for name in node.names}
            elif isinstance(node, ast.Import):
                plain.add(ast.unparse(node))
            lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
        parts.append(f"# From {path.relative_to(REPOSITORY).as_posix()}\n\n" + "\n".join(lines).strip())
    imports = [*sorted(plain), *(f"from {home} import {', '.join(sorted(froms[home]))}" for home in sorted(froms))]
    return f'"""{start}"""\n\n' + "\n".join(imports) + "\n\n" + "\n\n\n".join(parts) + "\n"


def dropped(tree: ast.Module, place: Container[str | None], *, last: bool) -> Iterator[ast.stmt]:
    """What of a module doesn't stay where it is: its docstring, its imports, what it does as a command."""
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        as_command = isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        if docstring or isinstance(node, (ast.Import, ast.ImportFrom)) or as_command and not last:
            yield node
        else:  # in functions, imports of the repository's own
            yield from (
                inner for inner in ast.walk(node) if isinstance(inner, ast.ImportFrom) and inner.module in place
            )
