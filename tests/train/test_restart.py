"""What torchrun does around the processes: it brings killed ones back, and joins two hosts."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fcn_train.cli import main

from .hosts import ADDRESS, on_two_hosts
from .running import assert_same_run, during_step
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


def test_launcher_that_keeps_nothing(
    in_folder: Path,
) -> None:
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
