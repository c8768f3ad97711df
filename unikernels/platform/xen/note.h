/* The numbers of the wiring's ELF note for the assembler, which cannot read wiring.h; start.c compares them with it. */
#ifndef XEN_NOTE_H
#define XEN_NOTE_H

#define NOTE_WIRING 1
#define NOTE_WIRING_VERSION 1

#endif
