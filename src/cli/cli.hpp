// The command line of cooper.
#pragma once

namespace cooper::cli {

// Parses argv, runs the command, returns the exit status: 0 done, 1 failed, 2 wrong usage,
// 125 cooper's own failure in `run` (else the container's status), 130 interrupted.
int main(int argc, char** argv);

}  // namespace cooper::cli
