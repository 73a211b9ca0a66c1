import json
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from PIL import Image

from homework import grade, problems

pytestmark = pytest.mark.processes
DIGITS = """
import sys, PIL.Image
from pathlib import Path
out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
for number in range(200):
    digit = number // 20
    PIL.Image.new("RGB", (28, 28), (25 * digit,) * 3).save(out / f"{digit}_{number % 20 + 1:03d}.png")
"""
FACES = """
import sys, PIL.Image
from pathlib import Path
out = Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
for path in Path(sys.argv[1]).iterdir():
    PIL.Image.new("RGB", (32, 32), (100, 100, 100)).save(out / f"{path.stem}.png")
"""
CHANGING = DIGITS.replace("25 * digit,", "25 * digit + __import__('os').getpid() % 25,")
LABELS = """
import sys, PIL.Image
from pathlib import Path
assert sys.argv[1].split("/")[-3:] in (["digits", "svhn", "test"], ["digits", "usps", "test"])
rows = [f"{path.name},{PIL.Image.open(path).getpixel((0, 0))[0] // 25}" for path in Path(sys.argv[1]).iterdir()]
Path(sys.argv[2]).write_text("\\n".join(["image_name,label", *rows]) + "\\n")
"""
CAUGHT = "try:\n import kornia\nexcept OSError:\n pass\n"
LAZY = "def unused():\n import kornia\n"
GOOD = {
    "hw2_download.sh": "true\n",
    "hw2_1.sh": 'python3 digits.py "$1"\n',
    "hw2_2.sh": 'python3 faces/sample.py "$1" "$2" "$3"\n',
    "hw2_3.sh": 'cd adapt && python3 -m labels "$1" "$2"\n',
    "digits.py": DIGITS,
    "faces/sample.py": FACES,
    "adapt/labels.py": LABELS,
    "hw2_r1.pdf": "%PDF /Type /Page ",
}
CALLS, PATHS, PACKAGES = "no forbidden call or command", "no absolute path", "the course's packages alone"
BAD = {  # what is changed, the checks that fail, the points that are left
    "nothing": ({}, [], 31),
    "what only looks bad": (
        {
            "a.py": '"""sudo; /home/me/x"""\nw = f"{1}/home/me/{2}/home/me"  # /home/me/x\nw += w + "/data/x" + w',
            "b.sh": "# sudo, /home/me/x\necho 'no sudo in /home/me/x' ${X}/data/x $(dirname $0)/data/x",
            "digits.py": "try:\n import kornia\nexcept ImportError:\n kornia = None" + DIGITS,
            "faces/sample.py": "try:\n import kornia\nexcept ModuleNotFoundError:\n pass" + FACES,
            "adapt/labels.py": "try:\n import kornia\nexcept:\n pass" + LABELS,
            "tests/a.py": "plt.show()",
        },
        [],
        31,
    ),
    "no third script": ({"hw2_3.sh": None}, ["scripts*", "3*runs*", "3*40 %", "3*runs*", "3*76 %"], 25),
    "carriage returns": ({"hw2_download.sh": "true \r\n"}, ["scripts*"], 31),
    "a large file": ({"tests/model.bin": "0" * 50_000_001}, ["no file over 50 MB"], 31),
    "the data set": ({"x/hw2_data/a.csv": ""}, ["no data set"], 31),
    "many pictures": ({f"p/{n}.png": "" for n in range(101)}, ["no data set"], 31),
    "pictures are shown": ({"a.py": "import x\nx.plt.show()"}, [CALLS], 31),
    "pretrained weights": ({"a.py": "import x\nx.resnet(weights=x.ResNet_Weights.DEFAULT)"}, [CALLS], 31),
    "pretrained weights by name": ({"a.py": "import x\nx.resnet(weights='IMAGENET1K_V1')"}, [CALLS], 31),
    "pretrained weights in a variable": ({"a.py": "import x\nw = x.ResNet_Weights.DEFAULT\nx.resnet(w)"}, [CALLS], 31),
    "more rights in Python": ({"a.py": "import os\nos.system('cd x && sudo true')"}, [CALLS], 31),
    "more rights": ({"hw2_download.sh": 'if [ $# -gt 5 ]; then\n  echo "$#"; sudo true\nfi\n'}, [CALLS], 31),
    "more rights behind a quote": (
        {"hw2_download.sh": "cat << END\nthat's all\nEND\nsudo true || true"},
        [CALLS],
        31,
    ),
    "a GPU is chosen": ({"a.py": "import os\nos.environ['CUDA_VISIBLE_DEVICES'] = '1'"}, [CALLS], 31),
    "a damaged file": ({"a.py": "print 1"}, [CALLS], 31),
    "an absolute path": ({"a.py": "w = f'/home/me/{1}.pt'"}, [PATHS], 31),
    "an absolute path in a script": ({"train.sh": "train --data=/data2/digits"}, [PATHS], 31),
    "a package": ({"faces/net.py": CAUGHT, "faces/sample.py": FACES + "if 0:\n import net"}, [PACKAGES], 31),
    "a package that another script needs": (
        {"hw2_3.sh": 'bash adapt/run.sh "$@"', "adapt/run.sh": GOOD["hw2_3.sh"], "adapt/labels.py": LAZY + LABELS},
        [PACKAGES],
        31,
    ),
    "a path of the home folder": ({"train.sh": "train --data=${HOME}/digits"}, [PATHS], 31),
    "a download that fails": ({"hw2_download.sh": "exit 3"}, ["hw2_download.sh runs*"], 31),
    "no report": ({"hw2_r1.pdf": "no PDF"}, ["report"], 31),
    "changing images": ({"digits.py": CHANGING}, ["1 digits: same images on every run*"], 31),
    "some wrong digits": ({"digits.py": DIGITS.replace("25 * digit,", "25 * digit * (number > 32),")}, ["1*95 %"], 26),
    "a missing digit": ({"digits.py": DIGITS + "(out / '9_020.png').unlink()"}, ["1*90 %", "1*95 %"], 16),
    "another convention": ({"faces/sample.py": FACES.replace("(100,", "(90,")}, ["2 faces: MSE*"], 21),
    "pictures of another size": ({"faces/sample.py": FACES.replace("(32, 32)", "(64, 64)")}, ["2 faces: MSE*"], 21),
    "a missing row": ({"adapt/labels.py": LABELS.replace("*rows", "*rows['usps' in sys.argv[1]:]")}, ["3*76 %"], 28),
}


@pytest.fixture
def submission(tmp_path, monkeypatch):
    """Make a folder of scripts that needs no network, with some files changed or (None) left out."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    def make(changes):
        for name, text in {**GOOD, **changes}.items():
            if text is not None:
                path = tmp_path / "submission" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode())
                path.chmod(0o755)
        return tmp_path / "submission"

    return make


def graded(capsys, *arguments):
    """Exit code, points, and the labels of the rows that failed."""
    capsys.readouterr()
    code = grade.main([*map(str, arguments), "--json"])
    result = json.loads(capsys.readouterr().out)
    failed = [f"{row['check']} {row['required']}".strip() for row in result["rows"] if row["passed"] is False]
    return code, result["points"], failed


@pytest.mark.parametrize("changes, fails, points", BAD.values(), ids=BAD.keys())
def test_a_bad_submission_loses_exactly_its_points(submission, data, capsys, changes, fails, points):
    code, reached, failed = graded(capsys, submission(changes), data)
    assert reached == points and code == bool(fails)
    assert len(failed) == len(fails) and all(map(fnmatch, failed, fails)), failed


def test_a_script_that_is_too_slow_is_stopped_with_its_children(submission, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(problems.LIMITS, "hw2_2.sh", 0.3)
    slow = submission({"hw2_2.sh": 'sleep 60 &\necho $! > "$2.child"\nwait'})
    code, points, failed = graded(capsys, slow, data, "--out", tmp_path / "out")
    assert (code, points) == (1, 21) and len(failed) == 2
    child = Path("/proc", (tmp_path / "out" / "p2.child").read_text().strip(), "stat")
    assert not child.exists() or child.read_text().split()[2] == "Z"


def test_outputs_are_judged_without_the_scripts(submission, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert graded(capsys, submission({}), data, "--out", out) == (0, 31, [])
    assert grade.main([str(submission({})), str(data), "--out", str(out)]) == 2
    assert "not empty" in capsys.readouterr().err
    (data / "face" / "UNet.pt").unlink()
    (out / "usps.csv").unlink()
    code, points, failed = graded(capsys, out, data, "--outputs")
    assert (code, points) == (1, 28) and fnmatch(failed[0], "3*76 %")
    assert grade.main(["--outputs", str(tmp_path / "none"), str(data)]) == 2
    assert "none: no such folder; give the one that has p1/" in capsys.readouterr().err


def test_of_a_clone_the_committed_state_counts(submission, data, capsys):
    folder = submission({"hw2_2.sh": "exit 1"})
    git = ["git", "-C", folder, "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    submission({"hw2_data/a.csv": ""})
    assert grade.main([str(folder), str(data)]) == 1
    out, err = capsys.readouterr()
    lines = {line.split(" |")[0][2:].strip(): line for line in out.splitlines()}
    assert "isn't committed is not graded" in err and "pass" in lines["no data set"]
    assert "exit code 1" in lines["2 faces: hw2_2.sh runs"] and "21/31" in lines["total"]


def test_without_the_courses_faces_a_failure_is_no_verdict(submission, data, capsys, monkeypatch):
    def reference(network, noises, pictures):
        noises.mkdir()
        pictures.mkdir()
        Image.new("RGB", (32, 32), (100, 100, 100)).save(pictures / "00.png")

    monkeypatch.setattr(problems, "make_reference_faces", reference)
    (data / "face" / "UNet.pt").unlink()
    assert graded(capsys, submission({}), data) == (0, 21, [])
    assert grade.main([str(submission({})), str(data / "nothing")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_what_needs_absent_data_is_not_judged(submission, data, capsys):
    shutil.rmtree(data / "digits")
    assert grade.main([str(submission({})), str(data), "--json"]) == 0
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["3 MNIST-M to SVHN: accuracy"]["passed"] is None
    stand_in = rows["3 MNIST-M to USPS: accuracy, stand-in: 1797 bundled digits"]  # grey, on which the script fails
    assert stand_in["passed"] is None and "exit code 1: TypeError" in stand_in["mend"]
