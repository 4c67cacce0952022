"""What warps issue: branches, barriers, what lanes hear of each other, memory."""

from __future__ import annotations

import numpy as np
import pytest

from .programs import THREAD, address, issued, machine_for, run

STORE = f"{address(4, 0)}\nSTG.E desc[UR4][R4.64], R20\nEXIT"


def test_both_sides_of_a_branch_are_issued_and_meet_again() -> None:
    result = np.zeros(64, np.uint32)
    machine = run(
        f"""
        {THREAD}
        ISETP.GE.AND P0, PT, R0, 0x28, PT
        BSSY B0, {{meet}}
        @P0 BRA {{late}}
        MOV R20, 0x1
        BRA {{meet}}
        late:
        MOV R20, 0x2
        meet:
        BSYNC B0
        VIADD R20, R20, 0xa
        {STORE}
        """,
        result,
        threads=64,
    )
    assert (result == np.where(np.arange(64) < 40, 11, 12)).all()
    # The first warp goes one way, the second one both.
    assert issued(machine, "MOV R20, 0x1") == 2
    assert issued(machine, "MOV R20, 0x2") == 1
    assert issued(machine, "VIADD R20") == 2
    assert machine.issued_by_block.tolist() == [machine.issued.sum()]


def test_a_loop_takes_as_long_as_its_last_lane() -> None:
    result = np.zeros(32, np.uint32)
    machine = run(
        f"""
        {THREAD}
        MOV R20, RZ
        BSSY B0, {{meet}}
        again:
        IADD3 R20, R20, 0x1, RZ
        ISETP.LE.AND P0, PT, R20, R0, PT
        @P0 BRA {{again}}
        meet:
        BSYNC B0
        {STORE}
        """,
        result,
    )
    assert (result == np.arange(32) + 1).all()
    assert issued(machine, "IADD3 R20") == 32
    assert issued(machine, "STG") == 1


def test_a_false_guard_takes_a_slot_and_does_nothing() -> None:
    result = np.full(32, 9, np.uint32)
    machine = run(f"{THREAD}\nMOV R20, 0x3\n@!PT MOV R20, 0x4\n{STORE}", result)
    assert (result == 3).all()
    assert issued(machine, "@!PT MOV") == 1


def test_a_break_lets_the_others_go_on() -> None:
    result = np.zeros(32, np.uint32)
    run(
        f"""
        {THREAD}
        MOV R20, 0x1
        BSSY B1, {{outer}}
        BSSY B0, {{inner}}
        ISETP.LT.AND P0, PT, R0, 0x4, PT
        @P0 BREAK B0
        @P0 BRA {{outer}}
        MOV R20, 0x2
        inner:
        BSYNC B0
        VIADD R20, R20, 0x10
        outer:
        BSYNC B1
        {STORE}
        """,
        result,
    )
    assert (result == np.where(np.arange(32) < 4, 1, 18)).all()


EXCHANGE = f"""
    {THREAD}
    IMAD.SHL.U32 R1, R0, 0x4, RZ
    STS [R1], R0
    BAR.SYNC.DEFER_BLOCKING 0x0
    LOP3.LUT R2, R1, 0xfc, RZ, 0x3c, !PT
    LDS R20, [R2]
    {STORE}
"""


def test_a_barrier_orders_shared_memory() -> None:
    result = np.zeros(64, np.uint32)
    machine = run(EXCHANGE, result, threads=64, shared_bytes=256)
    assert (result == 63 - np.arange(64)).all()
    assert machine.traffic.wavefronts == 4


def test_threads_that_wait_for_ever_are_found() -> None:
    from sass.machine import Deadlock

    text = f"{THREAD}\nISETP.GE.AND P0, PT, R0, 0x1, PT\n@P0 EXIT\nWARPSYNC.ALL\nEXIT"
    run(text)  # who has left is not waited for
    bssy = f"{THREAD}\nISETP.GE.AND P0, PT, R0, 0x1, PT\nWARPSYNC 0xffffffff\n"
    apart = f"{bssy}@P0 BRA {{there}}\nWARPSYNC 0xffffffff\nEXIT\nthere:\nNOP\nWARPSYNC 0x3\nEXIT"
    with pytest.raises(Deadlock, match="WARPSYNC"):
        run(apart)


def test_lanes_hear_of_each_other() -> None:
    result = np.zeros(32, np.uint32)
    run(f"{THREAD}\nSHFL.BFLY PT, R20, R0, 0x5, 0x1f\n{STORE}", result)
    assert (result == np.arange(32) ^ 5).all()
    run(f"{THREAD}\nSHFL.UP PT, R20, R0, 0x1, RZ\n{STORE}", result)
    assert (result == np.maximum(np.arange(32) - 1, 0)).all()
    run(f"{THREAD}\nSHFL.DOWN P0, R20, R0, 0x4, 0x181f\n{STORE}", result)
    in_eight = np.arange(32) % 8
    assert (result == np.where(in_eight < 4, np.arange(32) + 4, np.arange(32))).all()
    vote = f"{THREAD}\nISETP.LT.AND P0, PT, R0, 0x3, PT\nVOTE.ANY R20, PT, P0\n{STORE}"
    run(vote, result)
    assert (result == 7).all()


def test_a_shuffle_from_a_lane_that_left_is_an_error() -> None:
    text = f"{THREAD}\nISETP.EQ.AND P0, PT, R0, 0x5, PT\n@P0 EXIT\nSHFL.BFLY PT, R20, R0, 0x1, 0x1f"
    with pytest.raises(RuntimeError, match="reads a lane that is not there"):
        run(f"{text}\nEXIT")


@pytest.mark.parametrize(("stride", "turns"), [(4, 1), (8, 2), (128, 32), (0, 1)])
def test_banks_that_are_asked_for_several_words_take_turns(stride: int, turns: int) -> None:
    machine = run(f"{THREAD}\nIMAD R1, R0, 0x{stride:x}, RZ\nLDS R2, [R1]\nEXIT", shared_bytes=4096)
    assert machine.traffic.wavefronts == turns


def test_sectors_are_counted_once_a_warp_and_once_in_all() -> None:
    values = np.zeros(64, np.uint32)
    aligned = values[(-values.ctypes.data // 4) % 8 :][:32]
    load = f"{THREAD}\n{address(2, 0)}\nLDG.E R5, desc[UR4][R2.64]\n"
    machine = run(f"{load}LDG.E R6, desc[UR4][R2.64]\nEXIT", aligned)
    assert machine.traffic.loads.requested == 8
    assert machine.traffic.loads.bytes == 128


ARRIVALS = f"""
    {THREAD}
    MOV R2, c[0x0][0x210]
    MOV R3, c[0x0][0x214]
    MOV R5, 0x9
    ATOMG.E.INC.STRONG.GPU PT, R20, desc[UR4][R2.64], R5
    IMAD.WIDE R4, R0, 0x4, R2
    STG.E desc[UR4][R4.64+0x4], R20
    EXIT
"""


def test_lanes_count_in_turn_from_zero_and_begin_again() -> None:
    counter = np.zeros(33, np.uint32)
    run(ARRIVALS, counter)
    assert (counter[1:] == np.arange(32) % 10).all()
    assert counter[0] == 2


def test_blocks_that_run_alone_find_any_count_that_others_may_have_left() -> None:
    counter = np.zeros(33, np.uint32)
    machine = machine_for(ARRIVALS, counter, blocks=2)
    assert not machine.is_part
    alone = type(machine)(machine.program, machine.launch, [1])
    assert alone.is_part
    alone.run()
    assert set(counter[1:]) == set(range(10))


def test_accesses_outside_are_errors() -> None:
    from sass.memory import AccessError

    with pytest.raises(AccessError, match="shared memory ends"):
        run(f"{THREAD}\nLDS R2, [R0+0x800]\nEXIT", shared_bytes=64)
    with pytest.raises(AccessError, match="not aligned"):
        run(f"{THREAD}\nLDS R2, [R0]\nEXIT", shared_bytes=256)
    with pytest.raises(AccessError, match="no memory"):
        run("MOV R2, 0x10\nMOV R3, RZ\nLDG.E R4, desc[UR4][R2.64]\nEXIT")


def test_jumps_through_a_table_and_calls() -> None:
    result = np.zeros(32, np.uint32)
    table = f"""
        {THREAD}
        LOP3.LUT R1, R0, 0x1, RZ, 0xc0, !PT
        IMAD.SHL.U32 R1, R1, 0x4, RZ
        LDC R6, c[0x2][R1]
        MOV R7, RZ
        BRX R6 -0x60
        even:
        MOV R20, 0x64
        BRA {{done}}
        odd:
        MOV R22, 0xb0
        MOV R23, 0x0
        CALL.REL.NOINC {{routine}}
        done:
        {STORE}
        routine:
        MOV R20, R0
        RET.REL.NODEC R22 0x0
    """
    run(table, result, jump_targets=(0x60, 0x80))
    assert (result == np.where(np.arange(32) % 2 == 0, 100, np.arange(32))).all()


def test_an_instruction_that_is_not_known_is_named_when_it_is_met() -> None:
    from sass.instructions import UnknownInstruction

    machine_for("EXIT\nFROBNICATE R1, R2").run()
    with pytest.raises(UnknownInstruction, match="FROBNICATE R1, R2"):
        machine_for("FROBNICATE R1, R2\nEXIT").run()


def test_blocks_know_their_place_and_count_for_themselves() -> None:
    result = np.zeros(4, np.uint32)
    machine = run(
        f"""
        S2R R0, SR_CTAID.X
        S2UR UR6, SR_CTAID.X
        MOV R20, UR6
        ISETP.EQ.AND P0, PT, R0, 0x2, PT
        @P0 VIADD R20, R20, 0x64
        @P0 BRA {{end}}
        NOP
        end:
        {STORE}
        """,
        result,
        blocks=4,
    )
    assert result.tolist() == [0, 1, 102, 3]
    assert machine.issued_by_block.tolist()[2] == machine.issued_by_block.tolist()[1] - 1


def test_constants_that_print_as_nan_keep_their_bits() -> None:
    """The upper halves of infinite doubles, too, which are moved as floats and as halves."""
    from sass.disassembly import functions

    blank = "\n        /* 0x000fe20000000000 */"
    lines = {
        "FSEL R20, R9, -QNAN , P0": (0xFFF0000009147808, 0xFFF00000),
        "FSEL R20, R9, +QNAN , P0": (0x7FF8000009147808, 0x7FF80000),
        "HFMA2.MMA R20, -RZ, RZ, QNAN , 0": (0x7FF80000FF147435, 0x7FF80000),
    }
    sass = "".join(
        f"        /*{16 * k:04x}*/        {text} ;    /* 0x{word:016x} */{blank}\n"
        for k, (text, (word, _)) in enumerate(lines.items())
    )
    ((name, found),) = functions(f"\n\t\tFunction : kernel\n{sass}")
    assert name == "kernel"
    assert [at for at, _ in found] == [0, 16, 32]
    for (_, text), (_, bits) in zip(found, lines.values(), strict=True):
        result = np.zeros(32, np.uint32)
        run(f"{THREAD}\nMOV R9, 0x7\nISETP.LT.AND P0, PT, R0, RZ, PT\n{text}\n{STORE}", result)
        assert (result == bits).all(), text
