// The command line of cooper.
#pragma once

#include "cli/remote_builder.hpp"

namespace cooper::cli {

// Parses argv, runs the command, returns the exit status: 0 done, 1 failed, 2 wrong usage,
// 125 cooper's own failure in `run` (else the container's status), 130 interrupted.
// Without a remote builder, a build for which a daemon is named is handed to the program beside this one.
int main(int argc, char** argv, RemoteBuilder* remote);

}  // namespace cooper::cli
