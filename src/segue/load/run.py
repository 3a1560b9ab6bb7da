"""A run over some processes, each with its share of the rate; what they counted adds up."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from segue.contracts.errors import Unavailable
from segue.load.generator import Generator, new_loop
from segue.load.plan import Plan
from segue.load.report import Report, report_of
from segue.load.tally import Tally


def run(plan: Plan, on_progress: Callable[[Report], None] = lambda report: None) -> Report:
    """Drive a server as planned. `on_progress` hears about twice a second what there is so far.

    A KeyboardInterrupt ends the run early, with a report; a second one does not wait for answers. Raises Unavailable if a
    process of the generator dies.
    """
    context = multiprocessing.get_context("spawn")
    processes: dict[Connection, SpawnProcess] = {}
    for number in range(plan.processes):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_drive, args=(plan, number, there), daemon=True)
        process.start()
        there.close()
        processes[here] = process
    tallies = {pipe: Tally() for pipe in processes}
    talking, interrupted = set(processes), False
    while talking:
        try:
            for pipe in wait(talking):
                assert isinstance(pipe, Connection)
                try:
                    tallies[pipe] = pipe.recv()
                except EOFError:
                    talking.discard(pipe)
            on_progress(_report(plan, tallies.values()))
        except KeyboardInterrupt:
            for process in processes.values():
                process.kill() if interrupted else process.terminate()
            interrupted = True
    for process in processes.values():
        process.join()
    if not interrupted and not all(tally.over for tally in tallies.values()):
        raise Unavailable("a process of the generator died; what it said is above")
    return _report(plan, tallies.values())


def _report(plan: Plan, tallies: Iterable[Tally]) -> Report:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return report_of(total, plan.processes)


def _drive(plan: Plan, number: int, pipe: Connection) -> None:
    """The share of one process; runs in it. SIGTERM ends it early."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the first process decides
    generator = Generator(plan, number, pipe.send)
    gc.freeze()

    async def drive() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, generator.stop)
        await generator.run()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(drive())
    pipe.close()
