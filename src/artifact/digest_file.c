#include "artifact/digest_file.h"

#include <errno.h>
#include <fcntl.h>

#include "base/checks.h"
#include "os/io.h"

errc digest_of_file(const char *path, struct digest *ret_digest, uint64_t *ret_size, struct err *e)
{
	int fd CLEANUP(io_close) = io->open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot open %s", path);
	struct stat st;
	if (fstat(fd, &st) < 0)
		FAIL_ERRNO(e, "cannot stat %s", path);
	if (!S_ISREG(st.st_mode))
		FAIL(e, ERR_INVALID, "%s is not a regular file", path);
	struct digest_state s CLEANUP(digest_state_done) = digest_state_init();
	uint64_t size = 0;
	char chunk[65536];
	for (;;) {
		ssize_t n = io->read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			FAIL_ERRNO(e, "cannot read %s", path);
		if (n == 0)
			break;
		digest_state_add(&s, (str){ chunk, (size_t)n });
		size += (uint64_t)n;
	}
	*ret_digest = digest_state_finish(&s);
	*ret_size = size;
	return OK;
}
