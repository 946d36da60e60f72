// cooperd: the program that speaks BuildKit's API. Its name decides which side it is: `buildctl` and `cooper` (for
// builds at a daemon) are clients.
#include "buildctl/buildctl.hpp"
#include "buildctl/remote_build.hpp"
#include "cli/cli.hpp"

#include <cstdio>
#include <string_view>

int main(int argc, char** argv) {
    std::string_view name = argc > 0 ? argv[0] : "";
    name.remove_prefix(name.rfind('/') + 1);
    if (name == "buildctl") return cooper::buildctl::main(argc, argv);
    cooper::buildctl::DaemonBuilder builder;
    return cooper::cli::main(argc, argv, &builder);
}
