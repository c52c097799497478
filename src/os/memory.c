#include "os/memory.h"

#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * Segments that are not writable hold what the file holds: relocations go to writable ones, of
 * which the loader protects a part afterwards. The loader's lock is held during the walk, so none
 * of these addresses can come to mean something else meanwhile.
 */
static int release_object(struct dl_phdr_info *object, size_t size, void *ctx)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	(void)size, (void)ctx;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
		if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W))
			continue;
		uintptr_t begin = (object->dlpi_addr + segment->p_vaddr) & ~(page - 1);
		uintptr_t end = (object->dlpi_addr + segment->p_vaddr + segment->p_memsz) &
				~(page - 1);
		if (end > begin)
			madvise((void *)begin, end - begin, MADV_DONTNEED); /* vdso refuses */
	}
	return 0;
}

void memory_release(void)
{
	malloc_trim(0);
	dl_iterate_phdr(release_object, NULL);
}
