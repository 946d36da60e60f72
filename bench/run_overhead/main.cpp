// What a step costs over its bare command: medians of the bare command, of a bare `crun run`, and of our
// executor with the host's network and with its own. Needs root, crun and busybox-static.
//   run_overhead [ROUNDS]
#include "run/oci_executor.hpp"
#include "sys/namespaces.hpp"
#include "sys/process.hpp"
#include "sys/temp_dir.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <functional>
#include <string>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace {

using namespace cooper;  // NOLINT: a program of one file

constexpr const char* kCommand = "/bin/true";

double median_ms(int rounds, const std::function<void(int)>& work) {
    std::vector<double> times;
    for (int i = 0; i < rounds; i++) {
        const auto begin = std::chrono::steady_clock::now();
        work(i);
        times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

void must(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "%s\n", what);
    std::exit(1);
}

void shell(const std::string& script) {
    sys::SpawnSpec spec;
    spec.program = "/bin/sh";
    spec.args = {"sh", "-c", script};
    spec.fds = {{2, 2}};
    auto child = sys::Child::spawn(spec);
    must(child.has_value() && child->wait({})->code == 0, script.c_str());
}

}  // namespace

int main(int argc, char** argv) {
    const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 40;
    // Bare crun refuses hosts with cgroup v1 and v2 side by side; here the second one goes out of sight.
    must(sys::enter_private_mount_namespace().has_value(), "needs root");
    ::umount2("/sys/fs/cgroup/unified", MNT_DETACH);
    auto dir = sys::TempDir::create("/tmp", "run-overhead-");
    must(dir.has_value(), "no directory in /tmp");
    const std::string base = dir->path();
    shell(
        "cd " + base +
        " && mkdir -p b/rootfs/bin b/rootfs/proc b/rootfs/sys b/rootfs/dev && cp /usr/bin/busybox b/rootfs/bin/true && "
        "cd b && crun spec && sed -i 's/\"sh\"/\"\\/bin\\/true\"/; s/\"terminal\": true/\"terminal\": false/; "
        "s/{\"destination\": \"\\/sys\\/fs\\/cgroup\"[^}]*},//' config.json && "
        "python3 -c 'import json;c=json.load(open(\"config.json\"));"
        "c[\"mounts\"]=[m for m in c[\"mounts\"] if "
        "m[\"type\"]!=\"cgroup\"];json.dump(c,open(\"config.json\",\"w\"))'");

    const double bare = median_ms(rounds, [&](int) {
        sys::SpawnSpec spec;
        spec.program = base + "/b/rootfs/bin/true";
        spec.args = {"true"};
        auto child = sys::Child::spawn(spec);
        must(child.has_value() && child->wait({})->code == 0, "bare command failed");
    });
    std::printf("bare command        %7.2f ms\n", bare);

    const double crun = median_ms(rounds, [&](int i) {
        sys::SpawnSpec spec;
        spec.program = "/usr/bin/crun";
        spec.args = {"crun", "--cgroup-manager=disabled", "run", "-b", base + "/b", "overhead-" + std::to_string(i)};
        auto child = sys::Child::spawn(spec);
        must(child.has_value(), "crun did not start");
        must(child->wait({})->code == 0, "bare crun failed");
    });
    std::printf("bare crun run       %7.2f ms\n", crun);

    auto executor = run::make_oci_executor({.state_dir = base + "/state"});
    must(executor.has_value(), executor ? "" : executor.error().to_string().c_str());
    const auto measure = [&](const char* name, run::NetworkMode mode) {
        const double time = median_ms(rounds, [&](int i) {
            const std::string step = base + "/" + name + std::to_string(i);
            ::mkdir(step.c_str(), 0755);
            ::mkdir((step + "/upper").c_str(), 0755);
            ::mkdir((step + "/work").c_str(), 0755);
            run::ProcessSpec spec;
            spec.args = {kCommand};
            spec.root =
                sys::OverlayPlan{.lower = {base + "/b/rootfs"}, .upper = step + "/upper", .work = step + "/work"};
            spec.network = mode;
            const auto exit = (*executor)->run(spec, {}, {});
            must(exit.has_value() && exit->status.code == 0, exit ? "step failed" : exit.error().to_string().c_str());
        });
        std::printf("cooper, %-10s  %7.2f ms   overhead %6.2f ms\n", name, time, time - bare);
    };
    measure("host", run::NetworkMode::host);
    measure("none", run::NetworkMode::none);
    measure("isolated", run::NetworkMode::isolated);
    return 0;
}
