"""Bulk reranking on a real Ray cluster of two nodes, whose actors and machines are killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwen3_reranker import CheckpointError, EngineError, InputError, Reranker
from qwen3_reranker.bulk import cluster, files, rerank_dataset, rerank_files

from support.bulk import CrcScorer, DyingScorer, expected, read_bad, read_rows, write_lines
from support.engine_processes import gone, wait_until
from support.helpers import SETTINGS

ray: Any = pytest.importorskip("ray")
MEBIBYTE = 2**20
FOLDERS = ("source", "target")


class TwoNodes:
    """A cluster of two nodes on this machine. The first one has no CPUs for work to spare."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2,
                "object_store_memory": 80 * MEBIBYTE,
                "include_dashboard": False,
            },
        )
        self.nodes: list[Any] = []
        self.add()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self) -> None:
        node = self.cluster.add_node(num_cpus=2, object_store_memory=80 * MEBIBYTE)
        self.nodes.append(node)

    def kill_node(self) -> None:
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # The workers import the scorer of these tests.
        tests = str(Path(__file__).parents[1])
        path = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [tests, path])))
        nodes = TwoNodes()
        yield nodes
        ray.shutdown()
        nodes.cluster.shutdown()


@pytest.fixture
def connection(nodes: TwoNodes) -> Iterator[TwoNodes]:
    """Connect this process, as a pipeline of Ray Data does."""
    ray.init(nodes.address, logging_level="ERROR", log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    yield nodes
    ray.shutdown()


@pytest.fixture
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_SMALLEST_PARTITION", 400)


def rows_of(count: int) -> list[dict[str, Any]]:
    return [
        {"id": n, "query": f"query {n % 9}", "documents": [f"{n}", "copy", "x"]}
        for n in range(count)
    ]


def with_hits(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "hits": expected(row["query"], row["documents"])} for row in rows]


def actors(pids: Path) -> list[int]:
    """Return the processes that have scored, in the order of their ids."""
    return sorted(int(path.name) for path in pids.iterdir() if path.name.isdigit())


def sabotage(nodes: TwoNodes, pids: Path) -> None:
    """Kill one of two scoring actors, and the second node when a third one scores."""
    wait_until(lambda: len(actors(pids)) == 2, 60)
    kill(actors(pids)[0])
    wait_until(lambda: len(actors(pids)) == 3, 60)
    scoring = [pid for pid in actors(pids) if psutil.pid_exists(pid)]
    assert len(scoring) == 2
    nodes.kill_node()
    wait_until(lambda: not all(map(psutil.pid_exists, scoring)), 60)
    (pids / "fast").touch()


def engines() -> list[psutil.Process]:
    """Return the engine processes of this machine that belong to actors of Ray."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any("engine_process.py" in word for word in process.cmdline()):
                parent = process.parent()
                if parent is not None and "ray::" in " ".join(parent.cmdline()):
                    found.append(process)
    return found


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.usefixtures("small_partitions")
def test_engines_of_two_nodes_score_like_a_reranker_and_leave_nothing(
    nodes: TwoNodes, tmp_path: Path, reranker: Reranker
) -> None:
    """One engine's actor is killed in the midst. Each engine has half of the threads."""
    words = ["copy", "remove", "folder", "file", "list", "dictionary", "wait", "thread"]
    choose = random.Random(1)
    rows: list[dict[str, Any]] = [
        {
            "query": f"How do I {choose.choice(words)} a {choose.choice(words)}?",
            "documents": [" ".join(choose.choices(words, k=9)) for _ in range(3)],
        }
        for _ in range(150)
    ]
    source, target = write_lines(tmp_path / "in.jsonl", [*rows, {"query": "?"}]), tmp_path / "out"
    threads: set[str] = set()

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(
            rerank_files, source, target, ray=nodes.address, concurrency=2, **SETTINGS
        )
        wait_until(lambda: len(engines()) == 2, 120)
        threads.update(engine.environ()["OMP_NUM_THREADS"] for engine in engines())
        wait_until(lambda: [*target.glob("rows/part-*")], 120)
        [engine, _] = engines()
        kill(engine.ppid())
        wait_until(lambda: gone(engine))  # it does not outlive its actor
        summary = run.result()
    assert threads == {"2"}  # of the two CPUs of its node, as Ray counts them
    assert (summary.rows, summary.documents, summary.bad_rows) == (151, 450, 1)
    wanted = reranker.rerank_many([(row["query"], row["documents"]) for row in rows])
    for row, result, hits in zip(rows, read_rows(target), wanted, strict=True):
        scores = {hit["index"]: hit["score"] for hit in result.pop("hits")}
        assert result == row
        assert scores == pytest.approx({hit.index: hit.score for hit in hits}, abs=1e-4)
    wait_until(lambda: not engines())


@pytest.mark.usefixtures("small_partitions")
def test_files_outlive_an_actor_and_then_a_node(nodes: TwoNodes, tmp_path: Path) -> None:
    rows = rows_of(900)
    source, target = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out"
    (pids := tmp_path / "pids").mkdir()
    scorer = CrcScorer(seconds=0.05, pids=pids)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(
            rerank_files, source, target, ray=nodes.address, concurrency=2, scorer=scorer
        )
        sabotage(nodes, pids)
        assert not run.done()
        run.result()
    assert read_rows(target) == with_hits(rows)
    assert read_bad(target) == []
    nodes.add()


def test_a_dataset_outlives_an_actor_and_then_a_node(connection: TwoNodes, tmp_path: Path) -> None:
    rows = rows_of(900)
    dataset = ray.data.from_items(rows, override_num_blocks=30)
    scorer = CrcScorer(seconds=0.05, pids=tmp_path)
    result = rerank_dataset(dataset, scorer=scorer, concurrency=2)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(result.take_all)
        sabotage(connection, tmp_path)
        assert not run.done()
        connection.add()  # Ray Data waits for room for the lost actor
        found = sorted(run.result(), key=lambda row: row["id"])
    assert found == [{**row, "error": None} for row in with_hits(rows)]


def test_a_dataset_is_scored_by_engines_like_by_a_reranker(
    connection: TwoNodes, reranker: Reranker
) -> None:
    rows: list[dict[str, Any]] = [
        {"id": n, "query": f"copy a folder {n % 7}", "documents": [f"Copy {n}.", "Remove.", " "]}
        for n in range(150)
    ]
    dataset = ray.data.from_items(rows, override_num_blocks=4)
    result = rerank_dataset(dataset, top_n=2, concurrency=1, **SETTINGS)
    found = sorted(result.take_all(), key=lambda row: row["id"])
    wanted = reranker.rerank_many([(row["query"], row["documents"]) for row in rows], top_n=2)
    for row, scored, hits in zip(rows, found, wanted, strict=True):
        scores = {hit["index"]: hit["score"] for hit in scored.pop("hits")}
        assert scored == {**row, "error": None}
        assert scores == pytest.approx({hit.index: hit.score for hit in hits}, abs=1e-4)
    wait_until(lambda: not engines())


def test_a_dataset_names_the_rows_that_cannot_be_scored(connection: TwoNodes) -> None:
    rows = [{"id": 1, "q": "a", "text": "b"}, {"id": 2, "q": " ", "text": "b"}]
    result = rerank_dataset(ray.data.from_items(rows), query="q", scorer=CrcScorer(), concurrency=1)
    first, second = sorted(result.take_all(), key=lambda row: row["id"])
    assert (first["score"], first["error"]) == (expected("a", ["b"])[0]["score"], None)
    assert second["score"] is None
    assert "query is blank" in second["error"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_gpus": 2}, "needs 1 CPUs and 2 GPUs, and no machine"),
        ({"devices": ["cpu:0"], "scorer": None, "model": "demo"}, "cannot be used on a cluster"),
    ],
)
def test_a_dataset_that_would_wait_forever_is_refused(
    connection: TwoNodes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        rerank_dataset(ray.data.range(1), **{"scorer": CrcScorer(), **options})


def test_an_endless_stream_is_scored_in_flat_memory(connection: TwoNodes, tmp_path: Path) -> None:
    """9,000 rows of 30 KB are more than the cluster's memory for objects can hold."""

    def make(row: dict[str, Any]) -> dict[str, Any]:
        return {"query": "q", "documents": [f"{row['id']}", "x" * 30_000]}

    endless = ray.data.range(500_000, override_num_blocks=5_000).map(make)
    scorer = CrcScorer(pids=tmp_path)
    rows = iter(rerank_dataset(endless, scorer=scorer, concurrency=1).iter_rows())
    sizes = []
    for count, _row in enumerate(rows, 1):
        if count % 500 == 0:
            [pid] = actors(tmp_path)
            both = (psutil.Process(), psutil.Process(pid))
            sizes.append(sum(process.memory_info().rss for process in both) / MEBIBYTE)
        if count == 9000:
            break
    # If the rows since the fourth size were kept, there would be 210 MB more.
    assert max(sizes[4:]) - max(sizes[:4]) < 100, sizes


class Other:
    """An actor of another program."""

    def ping(self) -> None:
        """Return when it has room."""


class Locked(dict[str, Any]):
    """A cache that cannot be sent to another process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "/nowhere"}, CheckpointError, "/nowhere"),
        ({"scorer": CrcScorer(), "concurrency": 0}, InputError, "concurrency=0"),
        ({"scorer": CrcScorer(), "num_gpus": -1}, InputError, "num_gpus=-1"),
        ({"scorer": CrcScorer(), "num_gpus": 1.5}, InputError, "num_gpus=1.5: give a whole number"),
        (
            {"scorer": CrcScorer(), "num_gpus": 2},
            InputError,
            "needs 1 CPUs and 2 GPUs, and no mach",
        ),
        ({"model": "demo", "devices": ["cpu:0"]}, InputError, "devices= .* cannot be used on a"),
        (
            {"model": "demo", "engine_args": {"data_parallel_size": 2}},
            *(InputError, "data_parallel_size cannot be used on a"),
        ),
        ({"scorer": CrcScorer(), "ray": "127.0.0.1:1"}, InputError, "there is no Ray cluster"),
        ({"scorer": CrcScorer(), "cache": Locked()}, InputError, "cache= cannot be sent"),
        ({"scorer": DyingScorer(0)}, EngineError, r"did not start \(reached row 1 of .*in.jsonl"),
    ],
)
def test_failures_end_a_run_with_the_error_itself(
    nodes: TwoNodes, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"query": "query", "text": "t"}])
    with pytest.raises(error, match=message):
        rerank_files(source, tmp_path / "out", **{"ray": nodes.address, **options})
    assert not ray.is_initialized()


def test_a_cluster_of_another_version_is_refused(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_lines(tmp_path / "in.jsonl", rows_of(1))
    monkeypatch.setattr(ray, "__version__", "2.0.0")
    with pytest.raises(InputError, match=r"Version mismatch.* need the same versions of Ray"):
        rerank_files(source, tmp_path / "out", ray=nodes.address, scorer=CrcScorer())
    assert not ray.is_initialized()


@pytest.mark.parametrize("shared", ["source", "target"])
def test_folders_that_machines_do_not_share_are_named(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    """Below the working directory of each process, there are different files."""
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "in.jsonl", rows_of(1))
    paths = {name: tmp_path if name == shared else Path("/proc/self/cwd") for name in FOLDERS}
    message = r"cannot be opened on .* \(No such file .*\): .* that all of its machines share"
    with pytest.raises(InputError, match=message):
        rerank_files(
            paths["source"] / "in.jsonl",
            paths["target"] / "out",
            ray=nodes.address,
            scorer=CrcScorer(),
        )


def test_actors_without_room_are_reported_and_wait(
    nodes: TwoNodes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another program has all CPUs of the cluster."""
    monkeypatch.setattr(cluster, "_SILENCE", 0.5)
    rows = rows_of(3)
    source, target = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out"
    ray.init(nodes.address, logging_level="ERROR", log_to_driver=False)
    other = ray.remote(num_cpus=2)(Other)
    holders = [other.remote() for _ in range(2)]
    ray.get([holder.ping.remote() for holder in holders])
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(
            rerank_files, source, target, ray=nodes.address, concurrency=1, scorer=CrcScorer()
        )
        wait_until(lambda: "waiting for room for 1 of 1 actors" in caplog.text, 60)
        for holder in holders:
            ray.kill(holder)
        run.result()
    ray.shutdown()
    assert read_rows(target) == with_hits(rows)


@pytest.mark.usefixtures("small_partitions")
def test_an_actor_that_cannot_be_reached_is_ended(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray says so when a connection fails. The actor would keep its CPUs."""
    rows = rows_of(200)
    source, target = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out"
    (pids := tmp_path / "pids").mkdir()
    get, gets = ray.get, []

    def unreachable(reference: Any) -> Any:
        result = get(reference)
        gets.append(reference)
        if len(gets) == 3:  # when it has started and scored a partition
            raise ray.exceptions.ActorUnavailableError("no connection", None)
        return result

    monkeypatch.setattr(ray, "get", unreachable)
    scorer = CrcScorer(seconds=0.05, pids=pids)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(
            rerank_files, source, target, ray=nodes.address, concurrency=1, scorer=scorer
        )
        wait_until(lambda: len(actors(pids)) == 2, 60)
        wait_until(lambda: sum(map(psutil.pid_exists, actors(pids))) == 1, 60)
        assert not run.done()
        (pids / "fast").touch()
        run.result()
    assert read_rows(target) == with_hits(rows)
