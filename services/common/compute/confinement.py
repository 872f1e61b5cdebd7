"""Removes the rights that a process does not need before it reads untrusted bytes. This cannot be undone.

On every system: limits of CPU time, memory, files, processes and core dumps. On Linux also a seccomp filter: the
process can compute and use files that are open, but cannot open files, connect, run programs, start processes or signal
others. A filter needs no privileges, unlike a network namespace, which containers can seldom make. With the filter,
neither a namespace nor Landlock would add anything.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys

_SYSTEM_CALLS = {
    # name: numbers on x86_64 and aarch64
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "writev": (20, 66),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "getpid": (39, 172),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
}
"""System calls that decoders, NumPy, Python and the C library make while they compute."""

# Machine: place in the table above, AUDIT_ARCH_* of linux/audit.h, number of the system call `seccomp`.
_MACHINES = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SECCOMP_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _MACHINE_AT = 0, 4
_KILL_PROCESS, _ERROR, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000


def end_with_parent(parent: int) -> None:
    """Makes the system end this process when the thread that started it ends; Linux only.

    Args:
        parent: the parent's process id; if the parent has changed, this process ends now.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def limit_memory(memory_bytes: int) -> None:
    """Limits the data (RLIMIT_DATA) of this process and of those that it starts, and disables core dumps.

    macOS counts only a small part of the data.
    """
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_DATA, memory_bytes)


def confine(memory_bytes: int, cpu_seconds: int) -> str:
    """Limits this process, with all of its threads, to computing and to the files that are open.

    Import all that it needs first: from now on it can open nothing.

    Args:
        memory_bytes: see `limit_memory`.
        cpu_seconds: longest CPU time; after it the process gets SIGXCPU, and SIGKILL a second later.

    Returns:
        What could not be limited, as a text; empty if everything was.
    """
    missing = [_limit(memory_bytes, cpu_seconds), _filter_system_calls()]
    return "; ".join(filter(None, missing))


def can_confine() -> bool:
    """Whether a process can be confined completely on this kind of system and machine."""
    return sys.platform == "linux" and platform.machine() in _MACHINES and sys.maxsize > 2**32


def _limit(memory_bytes: int, cpu_seconds: int) -> str:
    try:
        limit_memory(memory_bytes)
        _lower(resource.RLIMIT_CPU, cpu_seconds, grace=1)
        _lower(resource.RLIMIT_FSIZE, 0)
        _lower(resource.RLIMIT_NPROC, 0)
        _lower(resource.RLIMIT_NOFILE, 0)  # open files stay open, but no more can be opened
    except (OSError, ValueError) as error:
        return f"memory, time and files are not limited: {error}"
    return ""


def _lower(kind: int, limit: int, grace: int = 0) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY and hard < limit + grace:
        return  # there is a lower limit already
    resource.setrlimit(kind, (limit, limit + grace))


def _filter_system_calls() -> str:
    if sys.platform != "linux":
        return f"memory and system calls are not limited on {platform.system()}"
    if platform.machine() not in _MACHINES or sys.maxsize < 2**32:  # 32-bit programs call by other numbers
        return f"system calls are not limited on {platform.machine()}"
    column, machine, seccomp = _MACHINES[platform.machine()]
    program = filter_program(machine, [numbers[column] for numbers in _SYSTEM_CALLS.values()])
    libc = ctypes.CDLL(None, use_errno=True)
    instructions = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))  # struct sock_fprog
    libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0)
    if libc.syscall(ctypes.c_long(seccomp), _SECCOMP_SET_MODE_FILTER, _ALL_THREADS, described) != 0:
        return f"system calls are not limited: seccomp says {os.strerror(ctypes.get_errno())}"
    return ""


def filter_program(machine: int, allowed: list[int]) -> bytes:
    """A filter (classic BPF, seccomp(2)): all system calls except the allowed ones fail with EPERM.

    Args:
        machine: AUDIT_ARCH_*; a process that uses the numbers of another machine is killed.
        allowed: numbers of system calls.
    """
    code = [(_LOAD_WORD, 0, 0, _MACHINE_AT), (_JUMP_IF_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _KILL_PROCESS)]
    code.append((_LOAD_WORD, 0, 0, _NUMBER_AT))
    code += [(_JUMP_IF_EQUAL, len(allowed) - place, 0, number) for place, number in enumerate(allowed)]
    code += [(_RETURN, 0, 0, _ERROR | errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
