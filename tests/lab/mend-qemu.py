#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Copies an emulator whose nested guests do not crash.

Usage: mend-qemu.py QEMU-SYSTEM-X86_64 COPY

Where a hypervisor has an interrupt delivered with VMRUN, QEMU (7.2, and those
before; helper_vmrun() in target/i386/tcg/sysemu/svm_helper.c) does so at once,
but also leaves its vector as the processor's pending exception.  If another
thread wants the processor's attention before the next instruction, the main
loop finds the exception and delivers the interrupt a second time: with
interrupts off, and from the first instruction of the handler, where a Linux
guest that was interrupted in user mode has not yet changed to its own GS.  It
dies of a double fault.  A guest with one virtual processor is hardly ever hit;
one with four, whose processors wake each other, does not survive its boot.

The store of the vector is six bytes, and nothing reads it: they become one
instruction that does nothing.  Where they are not found, just once, nothing is
written and the status is 1: this is another version of QEMU.
"""

import re
import sys

# mov %esi,exception_index(%rbx); movl $0,exception_is_int(%rbx);
# movq $-1,exception_next_eip(%rbx): only hardware interrupts have the last two.
STORE = re.compile(
    rb"\x89\xb3....(?=\xc7\x83..\0\0\0\0\0\0\x48\xc7\x83..\0\0\xff\xff\xff\xff)",
    re.S)
NOTHING = b"\x66\x0f\x1f\x44\x00\x00"


def main():
    with open(sys.argv[1], "rb") as f:
        program = f.read()
    program, stores = STORE.subn(NOTHING, program)
    if stores != 1:
        sys.exit("mend-qemu.py: %d places in %s instead of one" % (
            stores, sys.argv[1]))
    with open(sys.argv[2], "wb") as f:
        f.write(program)


if __name__ == "__main__":
    main()
