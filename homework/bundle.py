"""Modules of this repository put together into few files that need nothing else of it, as HKU's homework asks for."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from common.files import REPOSITORY

HKU = {  # every file's modules, each behind those that it needs
    "model.py": ["common.rng", "common.diffusion", "p1_cond_ddpm.loss"],
    "unet.py": ["common.cli", "common.config", "common.layers", "p1_cond_ddpm.unet"],
    "train_mnist.py": [
        *(f"common.{name}" for name in ("files", "checkpoint", "device", "images", "digits")),
        *(f"common.{name}" for name in ("muon", "optimisers", "run_folder", "training")),
        "p1_cond_ddpm.sampling",
        "p1_cond_ddpm.train",
    ],
}
STARTS = {
    "model.py": "Noise schedules, samplers, and the training loss.",
    "unet.py": "The network.",
    "train_mnist.py": """Train the network on MNIST, with a preview of all digits whenever the state is saved.

python3 train_mnist.py --data mnist.npz --run-dir runs/mnist

mnist.npz has images (N, 28, 28) uint8 and labels (N,). --help has all options.
""",
}


def bundle(files: Mapping[str, Sequence[str]] = HKU) -> dict[str, str]:
    """File name -> source, from file name -> modules."""
    place = {module: Path(name).stem for name, modules in files.items() for module in modules}
    return {name: bundled(modules, STARTS[name], place) for name, modules in files.items()}


def bundled(modules: Sequence[str], start: str, place: Mapping[str, str]) -> str:
    """The source of one file: all imports, then what is left of its modules. `place` has every module's new home."""
    froms, plain, parts = defaultdict[str, set[str]](set), set[str](), []
    for module in modules:
        path = module.replace(".", "/") + ".py"
        source = (REPOSITORY / path).read_text(encoding="utf-8")
        tree, lines = ast.parse(source), source.splitlines()
        for node in dropped(tree, last=module == modules[-1]):
            if isinstance(node, ast.ImportFrom):
                home = place.get(node.module or "", node.module or "")
                if home != place[module]:
                    froms[home] |= {ast.unparse(name) for name in node.names}
            elif isinstance(node, ast.Import):
                plain.add(ast.unparse(node))
            lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
        parts.append(f"# From {path}\n\n" + "\n".join(lines).strip())
    imports = [*sorted(plain), *(f"from {home} import {', '.join(sorted(froms[home]))}" for home in sorted(froms))]
    return f'"""{start}"""\n\n' + "\n".join(imports) + "\n\n" + "\n\n\n".join(parts) + "\n"


def dropped(tree: ast.Module, *, last: bool) -> Iterator[ast.stmt]:
    """What of a module doesn't stay where it is: its docstring, its imports, what it does as a command."""
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        as_command = isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        if docstring or isinstance(node, (ast.Import, ast.ImportFrom)) or as_command and not last:
            yield node
