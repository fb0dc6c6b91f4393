"""The process keeps freed memory."""

import platform

import pytest
from conftest import run_python

SCRIPT = """
import resource, sys, torch
from miniclip.utils.memory import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10 * 2**20)  # 40 MB, more than glibc keeps by default
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = page_faults()
assert keep_freed_memory()
page_faults()  # takes the memory, and room to align it
print(usual, page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_large_blocks_are_not_asked_of_the_kernel_again():
    usual, kept = map(int, run_python("-c", SCRIPT).stdout.split())
    assert usual > 50_000
    assert kept < usual / 10
