"""Who does the runs of a grid: workers here, the nodes of a cluster, or what the caller brings."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vaebench.environment import resolve_device
from vaebench.errors import ConfigError
from vaebench.executors import Gpus, Hear, default_jobs, in_workers, visible_gpus
from vaebench.grid.options import Options
from vaebench.grid.taking import Taking
from vaebench.run import Task

Executor = Callable[[Iterable[Task], Hear], None]


@dataclass(frozen=True)
class Crew:
    """Who does runs.

    Attributes:
        device: Where: ``cpu``, ``cuda`` or ``mps``.
        jobs: How many they can do at a time, at present.
        do: Does what is taken, tells what happens, so many at a time.
        loads: Whether they are other processes, which load plugins themselves.
    """

    device: str
    jobs: Callable[[], int]
    do: Callable[[Taking, Hear, int], None]
    loads: bool = True


@contextmanager
def crew_of(options: Options, executor: Executor | None = None) -> Iterator[Crew]:
    """Who does the runs of a call.

    Raises:
        ConfigError: There is no such device, Ray is not installed, or options contradict.
        ClusterError: There is no Ray cluster, or it refuses this process.
    """
    if executor is not None:
        if options.timeout is not None or options.retries or options.executor != "local":
            raise ConfigError("timeout, retries: only workers obey them; use run_grid, no executor")
        yield _brought(options, executor)
    elif options.executor == "ray":
        with _cluster(options) as crew:
            yield crew
    else:
        yield _workers(options)


def _brought(options: Options, executor: Executor) -> Crew:
    def do(taking: Taking, hear: Hear, _: int) -> None:
        executor(taking.all_at_once(), hear)

    return Crew(resolve_device(options.device), lambda: 1, do, loads=False)


def _workers(options: Options) -> Crew:
    device = resolve_device(options.device)
    names = visible_gpus() if device == "cuda" else ()
    jobs = options.jobs or default_jobs(device, len(names))
    each = options.jobs_per_gpu
    if each is not None:
        if device != "cuda":
            raise ConfigError(f"--jobs-per-gpu: the runs are done on {device}; leave it out")
        jobs = min(options.jobs or each * len(names), each * len(names))
    gpus = Gpus(names, each or -(-jobs // len(names))) if names else None

    def do(taking: Taking, hear: Hear, jobs: int) -> None:
        timeout, retries = options.timeout, options.retries
        in_workers(taking, hear, jobs=jobs, timeout=timeout, retries=retries, gpus=gpus)

    return Crew(device, lambda: jobs, do)


@contextmanager
def _cluster(options: Options) -> Iterator[Crew]:
    from vaebench.executors.ray_cluster import connected
    from vaebench.executors.ray_driver import in_ray

    each = options.jobs_per_gpu or 1
    with connected() as cluster:
        device = cluster.device(options.device)

        def jobs() -> int:
            return options.jobs or cluster.room(device, each)

        def do(taking: Taking, hear: Hear, _: int) -> None:
            timeout, retries = options.timeout, options.retries
            in_ray(
                taking,
                hear,
                cluster,
                jobs=jobs,
                anew=taking.again,
                each=each,
                timeout=timeout,
                retries=retries,
            )

        yield Crew(device, jobs, do)
