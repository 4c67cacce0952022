"""What torchrun does around the processes: it brings killed ones back, and joins two hosts."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fcn_train.cli import main
from fcn_train.evaluator import Evaluator
from fcn_train.splits import Splits

from .hosts import ADDRESS, on_two_hosts
from .running import HANGS, assert_same_run, during_step
from .several import Launcher, forked, torchrun

pytestmark = pytest.mark.usefixtures("no_pictures", "in_folder")


@pytest.fixture
def flags(sample_root: Path) -> list[str]:
    return [
        *("train", "--data.root", str(sample_root), "--data.crop", "32"),
        *("--data.scale", "0.8", "1.2", "--model.width", "0.05", "--model.fc-channels", "16"),
        *("--model.no-batch-norm", "--optim.batch", "4", "--optim.steps", "5"),
        *("--threads", "1", "--log-every", "1", "--checkpoint-every", "2"),
    ]


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_processes_are_brought_back(flags: list[str], in_folder: Path) -> None:
    """The same end as without, bit by bit, though the one that writes had no time to.

    Three processes, as the sum of two does not depend on their order.
    """
    whole = [*flags, "--output", "whole"]
    unbroken = Launcher(in_folder / "said").run(3, lambda rank: main(whole))
    assert [end.code for end in unbroken] == [0, 0, 0], unbroken

    def work() -> int:
        if (os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"]) == ("0", "0"):
            patch = pytest.MonkeyPatch()
            during_step(patch, 4, lambda: os.kill(os.getpid(), signal.SIGKILL))
        return main(flags)

    logs = in_folder / "logs"
    assert ended(forked(lambda: torchrun(3, work, logs, restarts=1))) == 0
    run = in_folder / "runs" / "sample-fcn8s-001"
    assert [path.name for path in (in_folder / "runs").iterdir()] == [run.name]
    assert_same_run(run, in_folder / "whole")
    (said,) = logs.glob("*/attempt_1/0/stdout.log")
    assert "steps 2 to 5 of 4 images" in said.read_text()


def test_one_process_alone_is_brought_back(flags: list[str], in_folder: Path) -> None:
    """Also before its first checkpoint. What a launcher keeps says which run it was."""

    def work(rank: int) -> int:
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            during_step(pytest.MonkeyPatch(), 1, lambda: os.kill(os.getpid(), signal.SIGKILL))
        return main(flags)

    launcher = Launcher(in_folder / "said")
    assert launcher.run(1, work)[0].code == -signal.SIGKILL
    assert launcher.run(1, work)[0].code == 0
    assert [path.name for path in (in_folder / "runs").iterdir()] == ["sample-fcn8s-001"]


@pytest.mark.usefixtures("patient_processes")
def test_launcher_that_keeps_nothing(in_folder: Path) -> None:
    ended = Launcher(in_folder / "said", keeps=False)
    ended.start(0, lambda rank: 0)  # the first attempt
    said = ended.run(2, lambda rank: main(["train"]))
    assert [end.code for end in said] == [2, 2]
    assert said[0].err.startswith("fcn: started again by a launcher that does not say which run")
    assert not list(in_folder.glob("runs"))


def test_two_hosts_train_together(flags: list[str], in_folder: Path) -> None:
    """Each with torchrun of its own, and a folder of its own: the first alone holds the run."""
    folders = in_folder / "first", in_folder / "second"

    def host(node: int) -> int:
        folders[node].mkdir()
        os.chdir(folders[node])
        given = [*flags, "--output", "run"]
        return torchrun(
            1,
            lambda: main(given),
            in_folder / f"logs-{node}",
            node=node,
            nodes=2,
            address=ADDRESS[node],
            endpoint=f"{ADDRESS[0]}:29507",
        )

    assert on_two_hosts(host) == [0, 0]
    assert (folders[0] / "run" / "metrics.json").is_file()
    assert not list(folders[1].iterdir())
    said = (next((in_folder / "logs-0").glob("*/attempt_0/0/stdout.log"))).read_text()
    assert "on cpu in 2 processes" in said


def _kill_launcher() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    while os.getppid() == LAUNCHER[0]:
        time.sleep(0.01)


LAUNCHER = [0]


def _in_step(patch: pytest.MonkeyPatch) -> None:
    during_step(patch, 3, _kill_launcher)


def _in_first_evaluation(patch: pytest.MonkeyPatch) -> None:
    plain = Evaluator.count

    def count(self: Evaluator, *arguments: Any) -> Any:
        if os.getppid() == LAUNCHER[0]:
            _kill_launcher()
        return plain(self, *arguments)

    patch.setattr(Evaluator, "count", count)


def _while_it_loads(patch: pytest.MonkeyPatch) -> None:
    plain = Splits.__init__

    def init(self: Splits, *arguments: Any) -> None:
        _kill_launcher()
        plain(self, *arguments)

    patch.setattr(Splits, "__init__", init)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    ("kill", "step"), [(_in_step, 3), (_in_first_evaluation, 1), (_while_it_loads, None)]
)
def test_processes_end_with_a_torchrun_that_is_killed(
    kill: Callable[[pytest.MonkeyPatch], None],
    step: int | None,
    size: int,
    flags: list[str],
    in_folder: Path,
) -> None:
    """Nobody could stop them any more. What they have learned is kept, and they say so once."""
    given = [*flags, "--output", "run", "--evaluate-every", "0.5", "--optim.steps", "9"]

    def work(rank: int) -> int:
        LAUNCHER[0] = os.getppid()
        signal.alarm(int(HANGS))  # nobody waits for it
        if rank == size - 1:
            kill(pytest.MonkeyPatch())
        code = main(given)
        (in_folder / f"code-{rank}").write_text(str(code))
        return code

    def launch() -> int:
        launcher = Launcher(in_folder / "said")  # whose store lives as long
        launcher.start(size, work)
        time.sleep(HANGS)
        return 0

    assert ended(forked(launch)) == -signal.SIGKILL
    codes = [in_folder / f"code-{rank}" for rank in range(size)]
    until = time.monotonic() + HANGS
    while not all(file.exists() and file.read_text() for file in codes):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert [file.read_text() for file in codes] == ["1"] * size
    texts = [(in_folder / "said" / f"{rank}.err").read_text() for rank in range(size)]
    errors = [re.sub(r"^warning: .*\n", "", text) for text in texts]  # of classes without a pixel
    said = "fcn: torchrun, which started this process, was killed"
    if step is None:
        assert [said in error for error in errors] == [True, *[False] * (size - 1)]
        return
    kept = f"The state after step {step} is saved; continue with: fcn train --resume run"
    assert errors == [f"{said}. {kept}\n", *[""] * (size - 1)]
    assert main(["train", "--resume", "run"]) == 0
    assert (Path("run") / "report.html").exists()
