/* The clocks, and random bytes. */
#pragma once

#include "base/units.h"

/* Milliseconds since 1970 UTC; may jump. */
time_ms clock_now(void);
/* Never goes back; for deadlines and spans. */
int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
/* Sleep, resuming after signals. */
void clock_sleep_ms(int64_t ms);
/* Bytes from the kernel's generator; aborts when there are none. */
void entropy_fill(void *bytes, size_t len);
/* Even in [0, below). */
uint32_t entropy_below(uint32_t below);
/* N lower-case hexadecimal digits and a NUL. */
void entropy_hex(char *text, size_t digit_count);

enum { CLOCK_BOOT_ID_SIZE = 37 };
/* Names the present start of the machine; where the kernel does not say, that of this process. */
void clock_boot_id(char id[static CLOCK_BOOT_ID_SIZE]);
