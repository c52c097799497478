#include "os/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/checks.h"

time_ms clock_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (time_ms)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_mono_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_mono_ms(void)
{
	return clock_mono_us() / 1000;
}

void clock_sleep_ms(int64_t ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000 };
	while (ms > 0 && nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

void entropy_fill(void *bytes, size_t len)
{
	char *at = bytes;
	while (len) {
		ssize_t n = getrandom(at, len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		must(n > 0);
		at += n;
		len -= (size_t)n;
	}
}

uint32_t entropy_below(uint32_t below)
{
	must(below > 0);
	uint32_t v = 0, limit = UINT32_MAX - UINT32_MAX % below;
	do {
		entropy_fill(&v, sizeof(v));
	} while (v >= limit);
	return v % below;
}

void entropy_hex(char *text, size_t digit_count)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < digit_count; i++)
		text[i] = digits[entropy_below(16)];
	text[digit_count] = '\0';
}

static char boot_id[CLOCK_BOOT_ID_SIZE];

static void read_boot_id(void)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, boot_id, sizeof(boot_id) - 1);
	if (fd >= 0)
		close(fd);
	if (n != sizeof(boot_id) - 1)
		entropy_hex(boot_id, sizeof(boot_id) - 1);
}

void clock_boot_id(char id[static CLOCK_BOOT_ID_SIZE])
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, read_boot_id);
	memcpy(id, boot_id, sizeof(boot_id));
}
