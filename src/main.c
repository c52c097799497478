/* The program: `holdfast shim` must stay tiny and comes first; everything else is the command line.
 */
#include <string.h>

#include "cli/command.h"
#include "shim/shim.h"

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "shim") == 0)
		return shim_main(argc, argv);
	return cli_main(argc, argv);
}
