/* Giving memory back while nothing happens. */
#pragma once

/*
 * Return what the heap does not use, and unmap the pages of program and library code: what ran once
 * (starting, packing, TLS) leaves, what still runs is mapped again from the page cache at its next
 * use, without reading the disk. Cost: about a millisecond, then a minor fault for each 64 KiB
 * used.
 */
void memory_release(void);
