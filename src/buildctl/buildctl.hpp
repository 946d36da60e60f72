// The command line of buildctl: BuildKit's own client, flag for flag and column for column.
#pragma once

namespace cooper::buildctl {

// Returns the exit status: 0 done, 1 failed or wrong usage, 130 interrupted.
int main(int argc, char** argv);

}  // namespace cooper::buildctl
