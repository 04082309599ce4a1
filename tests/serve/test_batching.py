"""The queue: one pass for many requests, each gets its own scores, nobody starves."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from homnet.bags.assessment import Assessment, FlatBags, assess
from homnet.errors import CheckpointError
from homnet.model.contract import BagModel
from homnet.model.predictor import Evidence, Predictor
from homnet.patients.finding import Finding
from homnet_serve import batching
from homnet_serve.batching import BatchQueue, ReadWork, ScoreWork
from homnet_serve.errors import RequestError
from homnet_serve.metrics import Metrics
from homnet_serve.shares import Shares

Queue = BatchQueue[ScoreWork, Evidence]


class _Recorder:
    """Stands for the models: a bag's logit is the sum of its levels, a hundred per model more."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.fails = False
        self.error: Exception = ValueError("broken")

    def __call__(
        self, predictors: Sequence[Predictor], bags: FlatBags, predictor_B: NDArray[np.int64]
    ) -> Evidence:
        self.passes.append(len(bags))
        if self.fails:
            raise self.error
        levels = bags.level_N.astype(float)
        start_B = np.cumsum(bags.size_B) - bags.size_B
        number_B = np.array([int(predictors[p].version) for p in predictor_B])
        logit_B = np.add.reduceat(levels, start_B) + 100 * number_B
        return Evidence(logit_B, levels, -levels, 0.0 * logit_B)


def _model(number: int) -> Predictor:
    return Predictor(BagModel(), {}, version=str(number))


def _bags(sizes: Sequence[int], seed: int) -> FlatBags:
    total = sum(sizes)
    level_N = np.random.default_rng(seed).integers(0, 1000, total)
    pair_NPCL = np.zeros((total, 2, 2, 4), np.uint8)
    return FlatBags(pair_NPCL, level_N * 0, level_N, np.array(sizes, np.int64))


def _run(body: Callable[[Queue], Awaitable[None]], recorder: _Recorder, **settings: float) -> None:
    async def main() -> None:
        options = {"max_bags": 10, "max_waiting_bags": 1000, "wait_s": 0.0, **settings}
        options["max_items"] = options.pop("max_bags")
        waiting = Shares("patients", int(options.pop("max_waiting_bags")), 0.75)
        with ThreadPoolExecutor(1) as thread, pytest.MonkeyPatch.context() as patch:
            # The real pass, but for what a model computes in it.
            patch.setattr(batching, "score_bags", recorder)
            queue: Queue = BatchQueue(
                Metrics(),
                batching.score,
                Evidence.concatenate,
                step="score",
                thread=thread,
                waiting=waiting,
                **options,  # type: ignore[arg-type]
            )
            worker = asyncio.create_task(queue.run())
            try:
                async with asyncio.timeout(10):
                    await body(queue)
            finally:
                worker.cancel()

    asyncio.run(main())


def _expected(bags: FlatBags, number: int) -> NDArray[np.float64]:
    start_B = np.cumsum(bags.size_B) - bags.size_B
    return np.add.reduceat(bags.level_N.astype(float), start_B) + 100 * number


def test_each_request_gets_its_own_scores() -> None:
    score = _Recorder()

    async def body(queue: Queue) -> None:
        rng = np.random.default_rng(0)
        models = [_model(n) for n in range(3)]
        requests = [
            _bags(rng.integers(1, 6, rng.integers(1, 30)).tolist(), seed) for seed in range(40)
        ]
        answers = await asyncio.gather(
            *(queue.submit(ScoreWork(b, [models[s % 3]] * len(b))) for s, b in enumerate(requests))
        )
        for number, (bags, evidence) in enumerate(zip(requests, answers, strict=True)):
            np.testing.assert_array_equal(evidence.logit_B, _expected(bags, number % 3))
            np.testing.assert_array_equal(evidence.weight_N, bags.level_N)
        assert sum(score.passes) == sum(len(bags) for bags in requests)

    _run(body, score)
    assert max(score.passes) <= 10
    assert np.median(score.passes) == 10


def test_a_large_request_does_not_hold_up_a_small_one() -> None:
    score = _Recorder()

    async def body(queue: Queue) -> None:
        large = asyncio.create_task(queue.submit(ScoreWork(_bags([1] * 500, 0), [_model(0)] * 500)))
        await asyncio.sleep(0)
        await queue.submit(ScoreWork(_bags([1], 1), [_model(0)]))
        assert not large.done()
        await large

    _run(body, score)


def test_a_pass_waits_for_requests_that_are_being_read() -> None:
    score = _Recorder()

    async def late(queue: Queue) -> None:
        with queue.arriving():
            await asyncio.sleep(0.01)
        await queue.submit(ScoreWork(_bags([1], 1), [_model(0)]))

    async def body(queue: Queue) -> None:
        task = asyncio.create_task(late(queue))
        await asyncio.sleep(0)
        await asyncio.gather(queue.submit(ScoreWork(_bags([1], 0), [_model(0)])), task)

    _run(body, score, wait_s=5.0)
    assert score.passes == [2]
    score.passes.clear()
    _run(body, score, wait_s=0.0)
    assert score.passes == [1, 1]


def test_a_full_queue_refuses() -> None:
    async def body(queue: Queue) -> None:
        work = ScoreWork(_bags([1] * 30, 0), [_model(0)] * 30)
        first = asyncio.create_task(queue.submit(work, "a"))
        await asyncio.sleep(0)
        for key, status in (("a", 429), ("b", 503)):
            with pytest.raises(RequestError) as error:
                await queue.submit(work, key)
            assert error.value.status == status
            assert error.value.retry_after_s == 1
        assert len((await first).logit_B) == 30
        # Alone, even a request above the limit is served.
        assert (
            len((await queue.submit(ScoreWork(_bags([1] * 90, 0), [_model(0)] * 90))).logit_B) == 90
        )

    _run(body, _Recorder(), max_waiting_bags=50)


def test_what_nobody_waits_for_is_not_scored() -> None:
    score = _Recorder()

    async def body(queue: Queue) -> None:
        abandoned = asyncio.create_task(
            queue.submit(ScoreWork(_bags([1] * 100, 0), [_model(0)] * 100))
        )
        await asyncio.sleep(0)
        abandoned.cancel()
        await queue.submit(ScoreWork(_bags([1], 1), [_model(0)]))

    _run(body, score)
    assert sum(score.passes) <= 11


def test_room_is_free_as_soon_as_nobody_waits() -> None:
    async def body(queue: Queue) -> None:
        work = ScoreWork(_bags([1] * 30, 0), [_model(0)] * 30)
        waiting = [asyncio.create_task(queue.submit(work, key)) for key in "ab"]
        await asyncio.sleep(0)
        with pytest.raises(RequestError):
            queue.admit("c")
        waiting[0].cancel()
        await asyncio.sleep(0)
        await asyncio.gather(queue.submit(work, "c"), waiting[1])

    _run(body, _Recorder(), max_waiting_bags=60)


def test_keys_take_turns() -> None:
    async def body(queue: Queue) -> None:
        many = [
            asyncio.create_task(queue.submit(ScoreWork(_bags([1] * 10, n), [_model(0)] * 10), "a"))
            for n in range(20)
        ]
        await asyncio.sleep(0)
        await queue.submit(ScoreWork(_bags([1] * 5, 1), [_model(0)] * 5), "b")
        assert sum(task.done() for task in many) <= 2
        await asyncio.gather(*many)

    _run(body, _Recorder())


def test_a_failure_reaches_those_it_concerns_only() -> None:
    score = _Recorder()

    async def body(queue: Queue) -> None:
        score.fails = True
        with pytest.raises(ValueError, match="broken"):
            await queue.submit(ScoreWork(_bags([1] * 25, 0), [_model(0)] * 25))
        score.fails = False
        assert len((await queue.submit(ScoreWork(_bags([1], 0), [_model(0)]))).logit_B) == 1

    _run(body, score)


def test_passes_that_fail_one_after_the_other_are_noticed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    score = _Recorder()
    work = ScoreWork(_bags([1], 0), [_model(0)])

    async def outcomes(queue: Queue, number: int) -> list[str]:
        found = []
        for _ in range(number):
            (outcome,) = await asyncio.gather(queue.submit(work), return_exceptions=True)
            found.append(type(outcome).__name__)
        return found

    async def body(queue: Queue) -> None:
        score.fails, score.error = True, CheckpointError("a fault of what was sent")
        assert await outcomes(queue, 4) == ["CheckpointError"] * 4
        assert not queue.is_failing
        score.error = RuntimeError("CUDA error: an illegal memory access was encountered")
        assert await outcomes(queue, 2) == ["RuntimeError"] * 2
        score.fails = False
        assert await outcomes(queue, 1) == ["Evidence"]
        score.fails = True
        assert await outcomes(queue, 2) == ["RuntimeError"] * 2
        assert not queue.is_failing
        # From the third on clients try again, and another replica may answer.
        assert await outcomes(queue, 2) == ["RequestError"] * 2
        assert queue.is_failing
        with pytest.raises(RequestError) as refusal:
            await queue.submit(work)
        assert (refusal.value.status, refusal.value.retry_after_s) == (503, 5)
        score.fails = False
        assert await outcomes(queue, 1) == ["Evidence"]
        assert not queue.is_failing

    _run(body, score)
    assert caplog.messages == ["pass_failed"] * 7
    assert {record.error for record in caplog.records} == {"RuntimeError"}  # type: ignore[attr-defined]


class _NamingReader:
    """Stands for a reader: the name of a finding is that of the type, the chance its own."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.passes: list[int] = []

    def __call__(self, assessment: Assessment) -> Sequence[Finding]:
        self.passes.append(len(assessment.types))
        return [Finding(*who, probability=None, reader=self.version) for who in assessment.types]


def test_each_request_gets_its_own_findings(table_of: Callable[..., pa.Table]) -> None:
    readers = [_NamingReader("one"), _NamingReader("two")]
    parts = [assess(table_of(f"h{n}", num_patients=n, num_cells=2, seed=n)) for n in (1, 2, 3)]
    works = [
        ReadWork(part, [readers[(g + n) % 2] for g in range(len(part.types))])
        for n, part in enumerate(parts)
    ]

    async def main() -> list[list[Finding]]:
        with ThreadPoolExecutor(1) as thread:
            queue: BatchQueue[ReadWork, list[Finding]] = BatchQueue(
                Metrics(),
                batching.read,
                batching.chained,
                step="read",
                thread=thread,
                max_items=10,
                waiting=Shares("patients", 1000, 1.0),
                wait_s=0.0,
            )
            worker = asyncio.create_task(queue.run())
            async with asyncio.timeout(10):
                found = await asyncio.gather(*map(queue.submit, works))
            worker.cancel()
        return found

    for work, findings in zip(works, asyncio.run(main()), strict=True):
        asked = [
            (*who, reader.version)  # type: ignore[attr-defined]
            for who, reader in zip(work.assessment.types, work.reader_G, strict=True)
        ]
        assert asked == [(f.hospital, f.patient_id, f.chromosome, f.reader) for f in findings]
    assert all(num <= 10 for reader in readers for num in reader.passes)
