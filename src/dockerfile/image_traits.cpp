#include "dockerfile/image_traits.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <array>

namespace cooper::dockerfile {

namespace {

struct Release {
    std::string_view name;
    int number;
};
constexpr std::array<Release, 7> kDebian = {{
    {"stretch", 9},
    {"buster", 10},
    {"bullseye", 11},
    {"bookworm", 12},
    {"trixie", 13},
    {"forky", 14},
    {"jessie", 8},
}};

// Official images whose plain tags are Debian or Ubuntu.
constexpr std::array<std::string_view, 15> kGlibc = {
    "docker.io/library/debian", "docker.io/library/ubuntu", "docker.io/library/python",
    "docker.io/library/node",   "docker.io/library/golang", "docker.io/library/rust",
    "docker.io/library/gcc",    "docker.io/library/ruby",   "docker.io/library/php",
    "docker.io/library/perl",   "docker.io/library/swift",  "docker.io/library/haskell",
    "docker.io/library/maven",  "docker.io/library/gradle", "docker.io/library/buildpack-deps"};

bool is_version(std::string_view text) {
    return !text.empty() && text.front() >= '0' && text.front() <= '9' &&
           text.find_first_not_of("0123456789.") == std::string_view::npos;
}

int debian_of(std::string_view repository, std::string_view part) {
    for (const Release& release : kDebian) {
        if (part == release.name) return release.number;
    }
    if (repository == "docker.io/library/debian" && is_version(part)) {
        return static_cast<int>(parse_int(part.substr(0, part.find('.'))).value_or(0) % 1000);
    }
    return 0;
}

}  // namespace

ImageTraits image_traits(const oci::Reference& image) {
    ImageTraits out;
    out.repository = image.repository();
    const std::vector<std::string> parts = split(image.tag(), '-');
    if (is_version(parts.front())) out.version = parts.front();
    const bool alpine = out.repository == "docker.io/library/alpine" ||
                        std::ranges::any_of(parts, [](const auto& part) { return part.starts_with("alpine"); });
    for (const std::string& part : parts) out.debian = std::max(out.debian, debian_of(out.repository, part));
    if (alpine) {
        out.libc = Libc::musl;
    } else if (out.debian > 0 || std::ranges::find(kGlibc, std::string_view(out.repository)) != kGlibc.end()) {
        out.libc = Libc::glibc;
    }
    return out;
}

bool same_version(const std::string& a, const std::string& b) {
    if (a.empty() || b.empty()) return true;
    const std::vector<std::string> left = split(a, '.');
    const std::vector<std::string> right = split(b, '.');
    return std::equal(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(std::min(left.size(), right.size())),
                      right.begin());
}

}  // namespace cooper::dockerfile
