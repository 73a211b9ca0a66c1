"""What stands in one Python file or shell script: calls, strings, words, imports."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

CALLS = {"imshow", "show", "from_pretrained", "load_state_dict_from_url"}
PRETRAINED = re.compile(r"_Weights\.\w+$")  # torchvision's, as in ResNet18_Weights.DEFAULT
NAMED = re.compile(r"'(?:DEFAULT|IMAGENET\w+)'$")  # the same by name
CAUGHT = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def parsed(path: Path) -> ast.Module | str:
    """The syntax tree of a Python file, or why there is none."""
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        return str(error)


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and value of all strings but docstrings; of an f-string or a sum only what it begins with."""
    passed_over: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            passed_over.add(node.value)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            passed_over.add(node.right)
        elif isinstance(node, ast.JoinedStr):
            passed_over.update(node.values[1:])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in passed_over:
            yield node.lineno, node.value


def forbidden_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of calls that show pictures or load pretrained weights."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and PRETRAINED.search(name := ast.unparse(node)):
            yield node.lineno, name
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name.split(".")[-1] in CALLS or name.endswith("hub.load"):
            yield node.lineno, f"{name}()"
        for keyword in node.keywords:
            value = ast.unparse(keyword.value)
            if (keyword.arg, value) == ("pretrained", "True") or keyword.arg == "weights" and NAMED.match(value):
                yield node.lineno, f"{keyword.arg}={value}"


def shell_words(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of a shell script's words, without comments; quoted text is one word."""
    text = re.sub(r"(?m)(?:^|(?<=\s))#.*", "", path.read_text(encoding="utf-8", errors="replace"))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|<>")
    lexer.commenters, lexer.whitespace_split = "", True
    try:
        for word in lexer:
            yield lexer.lineno, word
    except ValueError:  # a quote that shlex sees no end of, as in a here-document
        for number, line in enumerate(text.splitlines(), start=1):
            yield from ((number, word.strip("\"'")) for word in line.split())


def catches_imports(handler: ast.ExceptHandler) -> bool:
    """Whether an import that fails is caught here."""
    return handler.type is None or not CAUGHT.isdisjoint(re.findall(r"\w+", ast.unparse(handler.type)))


def imports(root: Path, name: Path) -> Iterator[tuple[int, str, list[Path]]]:
    """Line, dotted name (empty where relative) and files there are of all that a Python file imports.

    An import whose failure is caught is left out: the file does without.
    """
    tree, optional = parsed(root / name), set[ast.AST]()
    for node in ast.walk(tree) if isinstance(tree, ast.Module) else ():
        if isinstance(node, ast.Try) and any(map(catches_imports, node.handlers)):
            optional.update(node.body)
            continue
        elif node in optional:
            continue
        elif isinstance(node, ast.Import):
            names, bases = [alias.name for alias in node.names], [*name.parents]
        elif isinstance(node, ast.ImportFrom):
            names = [".".join(filter(None, (node.module, alias.name))) for alias in node.names]
            names += [node.module] if node.module else []
            bases = [name.parents[node.level - 1]] if 0 < node.level <= len(name.parents) else [*name.parents]
        else:
            continue
        for dotted in names:
            ends = (dotted.replace(".", "/") + end for end in (".py", "/__init__.py"))
            files = [base / end for end in ends for base in bases]
            known = "" if isinstance(node, ast.ImportFrom) and node.level else dotted
            yield node.lineno, known, [file for file in files if (root / file).is_file()]
