/* Runs a fuzz target over every file of the folder given: the corpus as an ordinary test. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	if (!f) {
		perror(path);
		exit(1);
	}
	/* a heap block of exactly the file's size, so that a sanitizer sees one byte too many */
	static char bytes[1 << 20];
	size_t len = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	uint8_t *exact = malloc(len ? len : 1);
	if (!exact)
		exit(1);
	memcpy(exact, bytes, len);
	LLVMFuzzerTestOneInput(exact, len);
	free(exact);
}

int main(int argc, char **argv)
{
	size_t file_count = 0;
	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		if (!dir) {
			perror(argv[i]);
			return 1;
		}
		for (struct dirent *d; (d = readdir(dir));) {
			char path[4096];
			if (d->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], d->d_name);
			run_file(path);
			file_count++;
		}
		closedir(dir);
	}
	printf("%zu inputs\n", file_count);
	return file_count ? 0 : 1;
}
