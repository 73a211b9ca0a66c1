import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from common.device import on_cores

CPU = torch.device("cpu")


def test_two_threads_work_on_a_job_each_and_results_keep_their_order():
    torch.set_num_threads(2)
    both_at_work = Barrier(2, timeout=20)

    def work(job, stopped):
        both_at_work.wait()
        return job, torch.get_num_threads()

    assert list(on_cores(work, [4, 3, 2, 1], CPU)) == [(4, 1), (3, 1), (2, 1), (1, 1)]
    with ThreadPoolExecutor(1) as fresh:
        assert fresh.submit(torch.get_num_threads).result() == 2


@pytest.mark.parametrize("jobs, device", [([5], CPU), ([5, 6], torch.device("meta"))])
def test_one_job_or_another_device_has_all_threads(jobs, device):
    torch.set_num_threads(2)
    threads = on_cores(lambda job, stopped: torch.get_num_threads(), jobs, device)
    assert list(threads) == [2] * len(jobs)


def test_after_an_error_jobs_at_work_are_told_and_the_others_dropped():
    torch.set_num_threads(2)
    both_at_work, begun, told = Barrier(2, timeout=20), [], []

    def work(job, stopped):
        begun.append(job)
        if job < 2:
            both_at_work.wait()
        if job == 0:
            raise ValueError("job 0")
        told.append(stopped.wait(timeout=20))
        time.sleep(0.5)  # until jobs not begun are dropped

    with pytest.raises(ValueError, match="job 0"):
        list(on_cores(work, [*range(9)], CPU))
    assert len(told) == len(begun) - 1 < 5 and all(told)
