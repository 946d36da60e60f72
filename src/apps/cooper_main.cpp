// cooper: the program.
#include "cli/cli.hpp"

int main(int argc, char** argv) { return cooper::cli::main(argc, argv, nullptr); }
