"""The Dockerfile, which cannot be built here: what can be seen without building it."""

import re

from tests.cluster.files import FOLDER, ROOT

TEXT = (FOLDER / "Dockerfile").read_text()


def test_what_it_copies_is_there() -> None:
    copied = [
        source
        for line in TEXT.splitlines()
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    ]
    assert {"trainables", "study", "search_spaces", "cluster"} <= set(copied)
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_its_user_is_not_root_and_has_the_number_of_the_files_that_name_it() -> None:
    users = re.findall(r"^USER (\w+)", TEXT, flags=re.MULTILINE)
    assert users[-1:] == ["ray"]
    (number,) = re.findall(r"--uid (\d+)", TEXT)
    assert f"runAsUser: {number}\n" in (FOLDER / "kuberay.yaml").read_text()


def test_rays_launcher_finds_its_home_and_its_tools() -> None:
    assert re.search(r"^ENV HOME=/home/ray ", TEXT, flags=re.MULTILINE)
    assert {"rsync", "openssh-client", "wget"} <= set(TEXT.split())
