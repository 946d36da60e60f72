#include "daemon/worker.hpp"

#include "base/text.hpp"
#include "sys/fd.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace cooper::daemon {

namespace {

constexpr std::string_view kPrefix = "org.mobyproject.buildkit.worker.";

Result<std::string> random_id() {
    std::array<unsigned char, 16> bytes{};
    if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        return fail_errno(errno, "get random bytes");
    std::string id;
    for (const unsigned char byte : bytes) id += fmt::format("{:02x}", byte);
    return id;
}

void add(std::vector<oci::Platform>& platforms, std::string_view text) {
    const auto platform = oci::parse_platform(text);
    if (platform && std::find(platforms.begin(), platforms.end(), *platform) == platforms.end())
        platforms.push_back(*platform);
}

}  // namespace

Result<std::string> worker_id(const std::string& path) {
    const sys::Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!file.valid()) return fail_errno(errno, "open " + path);
    const std::string known(trim(TRY(sys::read_to_end(file.get(), 256))));
    if (!known.empty()) return known;
    std::string id = TRY(random_id());
    TRY(sys::write_all(file.get(), id + "\n"));
    return id;
}

std::map<std::string, std::string> worker_labels(const std::map<std::string, std::string>& own) {
    struct utsname names{};
    static_cast<void>(::uname(&names));
    std::map<std::string, std::string> labels;
    const auto put = [&](std::string_view name, std::string value) {
        labels[std::string(kPrefix) + std::string(name)] = std::move(value);
    };
    put("executor", "oci");
    put("hostname", names.nodename);
    put("network", "host");
    put("oci.process-mode", "sandbox");
    put("selinux.enabled", "false");
    put("snapshotter", "overlayfs");
    for (const auto& [name, value] : own) labels[name] = value;
    return labels;
}

std::vector<oci::Platform> worker_platforms(const std::vector<std::string>& emulated) {
    std::vector<oci::Platform> platforms;
    const oci::Platform host = oci::host_platform();
    platforms.push_back(host);
#ifdef __x86_64__
    if (__builtin_cpu_supports("x86-64-v2")) add(platforms, "linux/amd64/v2");
    if (__builtin_cpu_supports("x86-64-v3")) add(platforms, "linux/amd64/v3");
    if (__builtin_cpu_supports("x86-64-v4")) add(platforms, "linux/amd64/v4");
    add(platforms, "linux/386");
#endif
    for (const std::string& architecture : emulated) {
        add(platforms, "linux/" + architecture);
        if (architecture == "arm") add(platforms, "linux/arm/v6");
    }
    return platforms;
}

std::string version_line() { return fmt::format("cooperd {} {} {}", kPackage, kBuildKitVersion, COOPER_VERSION); }

}  // namespace cooper::daemon
