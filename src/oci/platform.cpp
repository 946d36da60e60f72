#include "oci/platform.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <array>
#include <sys/utsname.h>

namespace cooper::oci {
namespace {

constexpr std::array<std::string_view, 20> kKnownOs{
    "aix",  "android", "darwin",  "dragonfly", "freebsd", "hurd",   "illumos", "ios", "js",    "linux",
    "nacl", "netbsd",  "openbsd", "plan9",     "solaris", "wasip1", "windows", "zos", "macos", "wasi"};
constexpr std::array<std::string_view, 29> kKnownArch{
    "386",    "amd64",    "amd64p32",  "arm",         "armbe",  "arm64",   "arm64be", "loong64", "mips",    "mipsle",
    "mips64", "mips64le", "mips64p32", "mips64p32le", "ppc",    "ppc64",   "ppc64le", "riscv",   "riscv64", "s390",
    "s390x",  "sparc",    "sparc64",   "wasm",        "wasm32", "amd64v2", "amd64v3", "amd64v4", "unknown"};

bool known_os(std::string_view os) { return std::ranges::find(kKnownOs, os) != kKnownOs.end(); }
bool known_arch(std::string_view arch) { return std::ranges::find(kKnownArch, arch) != kKnownArch.end(); }

void normalize_os(std::string& os) {
    os = to_lower(os);
    if (os == "macos") os = "darwin";
}

void normalize_arch(std::string& arch, std::string& variant) {
    arch = to_lower(arch);
    variant = to_lower(variant);
    if (arch == "i386") {
        arch = "386";
        variant.clear();
    } else if (arch == "x86_64" || arch == "x86-64" || arch == "amd64") {
        arch = "amd64";
        if (variant == "v1") variant.clear();
    } else if (arch == "aarch64" || arch == "arm64") {
        arch = "arm64";
        if (variant == "8" || variant == "v8") variant.clear();
    } else if (arch == "armhf") {
        arch = "arm";
        variant = "v7";
    } else if (arch == "armel") {
        arch = "arm";
        variant = "v6";
    } else if (arch == "arm") {
        if (variant.empty() || variant == "7") {
            variant = "v7";
        } else if (variant == "5" || variant == "6" || variant == "8") {
            variant.insert(0, "v");
        }
    }
}

bool valid_component(std::string_view part) {
    return !part.empty() && std::ranges::all_of(part, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
               c == '.';
    });
}

// "windows(10.0.17763)": splits off the version.
Result<std::pair<std::string, std::string>> parse_os(std::string_view part, std::string_view whole) {
    const std::size_t open = part.find('(');
    if (open == std::string_view::npos) return std::pair(std::string(part), std::string());
    if (!part.ends_with(')')) return bad_input("platform {}: the version of the system lacks its ')'", quoted(whole));
    return std::pair(std::string(part.substr(0, open)), std::string(part.substr(open + 1, part.size() - open - 2)));
}

// Everything `wanted` can run, best first.
std::vector<Platform> runnable(const Platform& wanted) {
    std::vector<Platform> all{wanted};
    const auto add = [&](std::string arch, std::string variant) {
        Platform next = wanted;
        next.architecture = std::move(arch);
        next.variant = std::move(variant);
        all.push_back(normalize(std::move(next)));
    };
    const std::int64_t level =
        wanted.variant.starts_with('v') ? parse_int(std::string_view(wanted.variant).substr(1)).value_or(0) : 0;
    if (wanted.architecture == "amd64") {
        for (std::int64_t v = std::min<std::int64_t>(level, 9) - 1; v >= 1; --v) add("amd64", fmt::format("v{}", v));
        add("386", "");
    } else if (wanted.architecture == "arm") {
        for (std::int64_t v = std::min<std::int64_t>(level, 9) - 1; v >= 5; --v) add("arm", fmt::format("v{}", v));
    } else if (wanted.architecture == "arm64") {
        if (!wanted.variant.empty()) add("arm64", "v8");
        for (int v = 8; v >= 5; --v) add("arm", fmt::format("v{}", v));
    }
    return all;
}

}  // namespace

Platform normalize(Platform platform) {
    normalize_os(platform.os);
    normalize_arch(platform.architecture, platform.variant);
    return platform;
}

Platform host_platform() {
    utsname name{};
    Platform host{.os = "linux"};
    if (uname(&name) == 0) host.architecture = name.machine;
    if (host.architecture == "armv7l" || host.architecture == "armv8l") host.architecture = "armhf";
    if (host.architecture == "armv6l") host.architecture = "armel";
    if (host.architecture == "i686" || host.architecture == "i586") host.architecture = "i386";
    return normalize(std::move(host));
}

Result<Platform> parse_platform(std::string_view text) {
    if (text.size() > 256) return bad_input("platform is {} bytes long, more than 256", text.size());
    const std::vector<std::string> parts = split(text, '/');
    if (parts.size() > 3) return bad_input("platform {} has more than three parts (os/arch/variant)", quoted(text));
    Platform platform;
    auto [os, version] = TRY(parse_os(parts[0], text));
    platform.os_version = std::move(version);
    for (const std::string& part : parts) {
        if (!valid_component(&part == &parts[0] ? os : part)) {
            return bad_input("platform {} is not of the form os/arch/variant", quoted(text))
                .with_hint("write for example linux/amd64, linux/arm64 or linux/arm/v7");
        }
    }
    normalize_os(os);
    if (parts.size() == 1) {
        if (known_os(os)) {
            platform.os = os;
            platform.architecture = host_platform().architecture;
            return normalize(std::move(platform));
        }
        platform.os = "linux";
        platform.architecture = parts[0];
        platform = normalize(std::move(platform));
        if (known_arch(platform.architecture)) return platform;
        return bad_input("platform {}: neither an operating system nor an architecture we know", quoted(text))
            .with_hint("write for example linux/amd64 or linux/arm64");
    }
    platform.os = os;
    platform.architecture = parts[1];
    if (parts.size() == 3) platform.variant = parts[2];
    return normalize(std::move(platform));
}

std::string format_platform(const Platform& platform) {
    if (platform.os.empty()) return "unknown";
    std::string text = platform.os;
    if (!platform.architecture.empty()) text += "/" + platform.architecture;
    if (!platform.variant.empty()) text += "/" + platform.variant;
    return text;
}

std::string format_platform_all(const Platform& platform) {
    if (platform.os.empty()) return "unknown";
    std::string text = platform.os;
    if (!platform.os_version.empty()) text += "(" + platform.os_version + ")";
    if (!platform.architecture.empty()) text += "/" + platform.architecture;
    if (!platform.variant.empty()) text += "/" + platform.variant;
    return text;
}

std::optional<int> match_rank(const Platform& wanted, const Platform& offered) {
    const Platform want = normalize(wanted);
    const Platform have = normalize(offered);
    const std::vector<Platform> all = runnable(want);
    for (std::size_t i = 0; i < all.size(); ++i) {
        const Platform& candidate = all[i];
        if (candidate.os != have.os || candidate.architecture != have.architecture) continue;
        if (candidate.variant != have.variant) continue;
        // A Windows image runs on the build it was made for; the revision after it does not matter.
        if (!want.os_version.empty() && !have.os_version.starts_with(want.os_version)) continue;
        return static_cast<int>(i);
    }
    return std::nullopt;
}

bool matches(const Platform& wanted, const Platform& offered) { return match_rank(wanted, offered).has_value(); }

}  // namespace cooper::oci
