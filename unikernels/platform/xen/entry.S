/*
 * Where Xen enters a 64-bit PV guest: the notes that tell the builder what this image is, the first instruction, exceptions and
 * event upcalls. A PV kernel runs in ring 3; Xen pushes rcx and r11 below the frame that hardware would push, because the system
 * call path between the two spoils them.
 */
#define __ASSEMBLY__
#include <xen/xen.h>
#include <xen/elfnote.h>
#include "note.h"

/* Guest-physical 0 is mapped here, so that page 0 stays unmapped and null pointers fault. 2 MiB aligned. */
#define VIRT_BASE 0x400000

.macro note owner, type, kind, value:vararg
  .balign 4
  .long 2f - 1f, 4f - 3f, \type
1: .asciz "\owner"
2: .balign 4
3: \kind \value
4: .balign 4
.endm

.section .note.Xen, "a", @note
  note Xen, XEN_ELFNOTE_GUEST_OS, .asciz, "Shoal"
  note Xen, XEN_ELFNOTE_GUEST_VERSION, .asciz, "1"
  note Xen, XEN_ELFNOTE_XEN_VERSION, .asciz, "xen-3.0"
  note Xen, XEN_ELFNOTE_LOADER, .asciz, "generic"
  note Xen, XEN_ELFNOTE_PAE_MODE, .asciz, "yes"
  note Xen, XEN_ELFNOTE_FEATURES, .asciz, "!writable_page_tables"
  note Xen, XEN_ELFNOTE_VIRT_BASE, .quad, VIRT_BASE
  note Xen, XEN_ELFNOTE_PADDR_OFFSET, .quad, VIRT_BASE
  note Xen, XEN_ELFNOTE_ENTRY, .quad, start
  note Shoal, NOTE_WIRING, .long, NOTE_WIRING_VERSION

/* rsi: start_info; rsp: the builder's stack of a page. */
.section .text..start, "ax", @progbits
.globl start
start:
  cld
  mov %rsi, %rdi
  xor %ebp, %ebp
  and $-16, %rsp
  call start_of_day
  ud2

.text

/* stack_switch(top, function): goes on in function on another stack, for good. */
.globl stack_switch
stack_switch:
  mov %rdi, %rsp
  xor %ebp, %ebp
  call *%rsi
  ud2

/* Events are masked but while the guest blocks, so an upcall only ends SCHEDOP_block. Xen masked events as it came here, and
 * they are to stay masked: a plain iretq within ring 3 does that (xen.h, HYPERVISOR_iret), without another hypercall. */
.globl event_callback
event_callback:
  mov (%rsp), %rcx
  mov 8(%rsp), %r11
  add $16, %rsp
  orb $3, 8(%rsp)
  iretq

/* Xen could not return to the guest: rcx, r11, ds, es, fs, gs lie below the usual frame. */
.globl failsafe_callback
failsafe_callback:
  mov (%rsp), %rcx
  mov 8(%rsp), %r11
  add $48, %rsp
  push $0
  push $32
  jmp exception_common

/* Beside each entry a row of the table that Xen gets (struct trap_info: vector, who may raise it, segment, address). */
.macro exception vector, has_code=0, ring=0
exception_\vector:
  mov (%rsp), %rcx
  mov 8(%rsp), %r11
  add $16, %rsp
  .if \has_code == 0
  push $0
  .endif
  push $\vector
  jmp exception_common
.pushsection .rodata..exceptions, "a"
  .byte \vector, \ring
  .short FLAT_KERNEL_CS
  .long 0
  .quad exception_\vector
.popsection
.endm

.pushsection .rodata..exceptions, "a"
.balign 8
.globl trap_table
trap_table:
.popsection

  exception 0
  exception 1
  exception 3, 0, 3 /* int3 is the one that may be raised by an instruction */
  exception 4
  exception 5
  exception 6
  exception 7
  exception 8, 1
  exception 10, 1
  exception 11, 1
  exception 12, 1
  exception 13, 1
  exception 14, 1
  exception 16
  exception 17, 1
  exception 18
  exception 19

.pushsection .rodata..exceptions, "a"
  .quad 0, 0
.popsection

/* The registers as struct registers (traps.c) has them. */
exception_common:
  push %rax
  push %rcx
  push %rdx
  push %rbx
  push %rbp
  push %rsi
  push %rdi
  push %r8
  push %r9
  push %r10
  push %r11
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, %rdi
  and $-16, %rsp
  cld
  call exception_report
  ud2

.section .note.GNU-stack, "", @progbits
