// Package databases of anybody: the first byte says which parser reads the rest. Whatever comes out makes documents
// that are JSON.
#include "attest/sbom.hpp"
#include "codec/sha256.hpp"

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <sys/mman.h>
#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    namespace attest = cooper::attest;
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    const attest::OsRelease os = attest::parse_os_release(text.substr(0, 64));
    std::vector<attest::Package> found;
    const auto add = [&](const std::optional<attest::Package>& package) {
        if (package) found.push_back(*package);
    };
    switch (data[0] % 14) {
        case 0:
            found = attest::parse_dpkg(text, os);
            break;
        case 1:
            found = attest::parse_apk(text, os);
            break;
        case 2:
            add(attest::parse_rpm_header(text, os));
            break;
        case 3:
            found = attest::parse_rpm_ndb(text, os);
            break;
        case 4:
            found = attest::parse_rpm_sqlite(text, os);
            break;
        case 5:
            add(attest::parse_python(text));
            break;
        case 6:
            add(attest::parse_npm(text));
            break;
        case 7:
            add(attest::parse_gem(text, text.substr(0, 30)));
            break;
        case 8:
            found = attest::parse_go_modules(text);
            break;
        case 9:
            found = attest::parse_rpm_bdb(text, os);
            break;
        case 10:
            found = attest::parse_dotnet_deps(text);
            break;
        case 11:
            found = attest::parse_composer(text);
            break;
        default: {
            const int file = ::memfd_create("program", MFD_CLOEXEC);
            if (::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size())) {
                std::uint64_t budget = 1 << 26U;
                if (data[0] % 14 == 12) {
                    found = attest::read_java_archive(file, text.size(), "lib/name-1.2.jar", budget);
                } else if (const auto build = attest::read_go_build(file)) {
                    found = attest::parse_go_modules(build->modules);
                } else {
                    found = attest::parse_rust_crates(attest::read_rust_build(file));
                }
            }
            ::close(file);
        }
    }
    attest::SbomFacts facts;
    facts.name = "fuzz";
    facts.inventory.packages = std::move(found);
    for (const auto format : {attest::SbomFormat::spdx, attest::SbomFormat::cyclonedx})
        CHECK(nlohmann::json::accept(attest::make_sbom(facts, format)));
    return 0;
}
