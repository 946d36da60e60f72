// A build without a Dockerfile: two steps that run side by side, and one that takes from both. Prints the definition
// that BuildKit's protocol calls LLB; `buildctl build` sends it to a daemon, cooperd or BuildKit's.
#include "llb/marshal.hpp"
#include "llb/state.hpp"

#include <cstdio>

using namespace cooper;

namespace {

llb::State shell(const llb::State& base, const std::string& command) {
    llb::RunOptions options;
    options.args = {"/bin/sh", "-c", command};
    options.constraints.set_name(command);
    return base.run(options);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string image = argc > 1 ? argv[1] : "docker.io/library/busybox:latest";
    const llb::State base = llb::image(image, {});
    const llb::State left = shell(base, "echo left > /left");
    const llb::State right = shell(base, "echo right > /right");

    llb::FileActions gather;
    gather.copy(left, "/left", "/", {});
    gather.copy(right, "/right", "/", {});
    const llb::State both = llb::scratch().file(std::move(gather), {});

    const auto definition = llb::marshal_definition(both, {.architecture = "amd64", .os = "linux"});
    if (!definition) {
        std::fprintf(stderr, "error: %s\n", definition.error().to_string().c_str());
        return 1;
    }
    const std::string bytes = llb::marshal(*definition);
    return std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size() ? 0 : 1;
}
