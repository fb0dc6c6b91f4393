"""What is recorded about the code behind a figure."""

import shutil
import subprocess

import pytest

from miniclip.utils import provenance

GIT = shutil.which("git")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with two committed files in place of this one. One of them holds a benchmark's figures."""
    figures = tmp_path / provenance.BENCHMARK_RESULTS / "speed.json"
    figures.parent.mkdir(parents=True)
    figures.write_text("{}")
    (tmp_path / "model.py").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "--message", "all")
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path)
    return tmp_path


def git(folder, *arguments):
    subprocess.run([GIT, *arguments], cwd=folder, check=True)


def test_changed_code_is_named_dirty(repository):
    clean = provenance.git_commit()
    assert len(clean) == 40
    (repository / "model.py").write_text("changed")
    assert provenance.git_commit() == f"{clean}-dirty"


def test_figures_and_untracked_files_do_not_make_code_dirty(repository):
    clean = provenance.git_commit()
    (repository / provenance.BENCHMARK_RESULTS / "speed.json").write_text('{"ratio": 2}')
    (repository / "notes.txt").write_text("not of the repository")
    assert provenance.git_commit() == clean


def test_without_a_commit_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path)
    assert provenance.git_commit() is None
    git(tmp_path, "init", "--quiet")
    assert provenance.git_commit() is None
