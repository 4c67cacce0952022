"""Runs the machine code of CUDA kernels without a GPU and counts what it issues.

``disassembly`` reads functions from a library, ``operands`` the texts of operands; ``instructions``
says what each instruction does, ``machine`` runs the threads of some blocks, and ``memory`` is what
they access.
"""
