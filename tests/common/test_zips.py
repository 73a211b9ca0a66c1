import io
import zipfile

import numpy as np
import pytest

from common.cli import UserError
from common.images import read_pictures
from common.zips import check_sums, check_unpacked_size


def test_a_zip_that_would_fill_the_memory_is_refused(tmp_path):
    for name, content in (("bomb.pt", bytes(1_000_000)), ("a.pt", np.random.RandomState(0).bytes(1000))):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("data.pkl", content)
    check_unpacked_size(tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"bomb\.pt: a zip that unpacks to 1000000 bytes"):
        check_unpacked_size(tmp_path / "bomb.pt")


def test_what_is_no_zip_has_no_checksums(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"none")
    check_sums(tmp_path / "a.pt")


def test_a_header_that_hides_pictures_is_seen(tmp_path):
    content = io.BytesIO()
    np.savez(content, images=np.full((9, 28, 28, 3), 9, np.uint8))
    (tmp_path / "a.npz").write_bytes(content.getvalue().replace(b"(9, 28, 28, 3)", b"(1, 28, 28, 3)"))
    with pytest.raises(UserError, match="a checksum is wrong"):
        read_pictures(tmp_path / "a.npz")
