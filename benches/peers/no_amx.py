"""Keeps a process from AMX, so that a library that asks the kernel for it falls back to AVX-512
VNNI."""

import ctypes
import platform
import struct

# linux/prctl.h, linux/seccomp.h, linux/filter.h, linux/audit.h, asm/prctl.h
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM
AUDIT_ARCH_X86_64, ARCH_PRCTL, ARCH_REQ_XCOMP_PERM = 0xC000003E, 158, 0x1023
OFFSET_OF_CALL, OFFSET_OF_ARCHITECTURE, OFFSET_OF_FIRST_ARGUMENT = 0, 4, 16


def has_amx():
    """True where the processor lists AMX for int8."""
    try:
        with open("/proc/cpuinfo") as file:
            return any(line.startswith("flags") and " amx_int8" in line for line in file)
    except OSError:
        return False


def refuse_amx():
    """Refuses this process and its children the permission for tile registers; call it before the
    library is loaded.

    Tile data needs a permission that is asked for with arch_prctl(ARCH_REQ_XCOMP_PERM), and a
    seccomp filter answers that one call with EPERM. Raises OSError where the filter cannot be set.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return
    program = [
        (LOAD_WORD, 0, 0, OFFSET_OF_ARCHITECTURE),
        (JUMP_IF_EQUAL, 0, 4, AUDIT_ARCH_X86_64),
        (LOAD_WORD, 0, 0, OFFSET_OF_CALL),
        (JUMP_IF_EQUAL, 0, 2, ARCH_PRCTL),
        (LOAD_WORD, 0, 0, OFFSET_OF_FIRST_ARGUMENT),
        (JUMP_IF_EQUAL, 1, 0, ARCH_REQ_XCOMP_PERM),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "seccomp filter against AMX")
