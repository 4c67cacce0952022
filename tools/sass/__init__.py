"""Runs the machine code of CUDA kernels without a GPU and counts what it issues.

``disassembly`` reads functions from a library, ``operands`` their texts, ``instructions`` says what
each instruction does, ``machine`` runs the threads of some blocks, ``memory`` is what they touch.
"""
