"""The limit of BLAS's threads lasts until the last block that needs it has ended."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from asrbuild.coreml.executor.threads import one_thread


def threads() -> set[int]:
    """The numbers of threads of the BLAS libraries in this process."""
    np.dot(np.ones((2, 2)), np.ones((2, 2)))
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_blocks_that_overlap_share_the_limit() -> None:
    first, second = one_thread(), one_thread()
    with threadpool_limits(2, user_api="blas"):
        assert threads() == {2}
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert threads() == {1}
        second.__exit__(None, None, None)
        assert threads() == {2}


def test_a_failed_block_ends_its_limit() -> None:
    with threadpool_limits(2, user_api="blas"):
        try:
            with one_thread():
                raise ValueError
        except ValueError:
            assert threads() == {2}
