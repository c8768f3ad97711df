/* Memory order towards another domain on another CPU. x86 keeps stores and loads in order among themselves; only a store followed
 * by a load needs a fence (Intel SDM volume 3, 8.2.2). */
#ifndef KERNEL_BARRIER_H
#define KERNEL_BARRIER_H

#define barrier_full() __asm__ volatile("mfence" ::: "memory")
#define barrier_read() __asm__ volatile("" ::: "memory")
#define barrier_write() __asm__ volatile("" ::: "memory")

/* The names that xen/io/ring.h asks for. */
#define xen_mb() barrier_full()
#define xen_rmb() barrier_read()
#define xen_wmb() barrier_write()

#endif
